//! `tiktoken.model`: the tokens of a byte-level BPE and their ranks, in place of a `tokenizer.json`.
//!
//! tiktoken joins, again and again, the two neighbours of a piece whose bytes together are the token of the lowest rank,
//! the leftmost ones of several. A [`BPE`] joins the neighbours that its list of merges has first, and so it wants to
//! know which two neighbours make up a token. There are never two ways:
//!
//! Take a place in a piece where two neighbours could be joined to the token `t`. Nothing has been joined across the
//! ends of `t` so far, and so what was joined within was chosen as if `t` stood alone: the choice is by rank and then
//! from the left, and what is outside offers no neighbours inside. The last state of `t` alone that has two parts is
//! thus the only one in which `t` can be joined, wherever it stands.
//!
//! One merge per token, in the order of ranks, hence gives exactly tiktoken's tokens. Tokens that no join leads to are
//! met only as whole pieces, which tiktoken looks up before it joins anything: `ignore_merges`.
//!
//! Source: tiktoken, `byte_pair_merge` and `encode_ordinary`; Kimi K2, `tokenization_kimi.py` for the pieces and the
//! reserved tokens.

use super::pieces::alphabet_char;
use super::tokenizer::TextError;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use std::collections::HashMap;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

/// Its name beside the weights.
pub const TIKTOKEN_FILE: &str = "tiktoken.model";

/// How Kimi's code, which is not part of the file, divides a text into pieces.
const PIECES: &str = concat!(
    r"[\p{Han}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+",
    r"|\s+(?!\S)",
    r"|\s+",
);

/// Tokens by their bytes.
type Ranks = HashMap<Vec<u8>, u32>;

/// Reads the file as a tokenizer without any special tokens.
pub(super) fn read(file: &[u8]) -> Result<tokenizers::Tokenizer, TextError> {
    let ranks = ranks(file)?;
    let name = |bytes: &[u8]| bytes.iter().map(|byte| alphabet_char(*byte)).collect::<String>();
    let merges = merges(&ranks).into_iter().map(|(left, right)| (name(left), name(right))).collect();
    let vocab = ranks.iter().map(|(bytes, rank)| (name(bytes), *rank)).collect::<Vocab>();
    let failed = |error: tokenizers::Error| invalid(error.to_string());
    let bpe = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(true).build().map_err(failed)?;
    let pieces = Split::new(SplitPattern::Regex(PIECES.to_owned()), SplitDelimiterBehavior::Isolated, false);
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let bytes = ByteLevel::new(false, true, false);
    tokenizer
        .with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::Split(pieces.map_err(failed)?),
            PreTokenizerWrapper::ByteLevel(bytes),
        ])))
        .with_decoder(Some(bytes));
    Ok(tokenizer)
}

/// What Kimi calls a reserved token without a name of its own.
pub(super) fn reserved_token(id: u32) -> String {
    format!("<|reserved_token_{id}|>")
}

fn ranks(file: &[u8]) -> Result<Ranks, TextError> {
    let mut ranks = Ranks::default();
    let mut taken = Vec::new();
    for (number, line) in (1..).zip(file.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let bad = |reason: &str| invalid(format!("line {number}: {reason}"));
        let mut words = line.split(|byte| *byte == b' ');
        let (Some(token), Some(rank), None) = (words.next(), words.next(), words.next()) else {
            return Err(bad("not a token and a rank"));
        };
        let token = BASE64_STANDARD.decode(token).map_err(|_| bad("the token is not base64"))?;
        let rank = std::str::from_utf8(rank).ok().and_then(|rank| rank.parse::<u32>().ok());
        let rank = rank.ok_or_else(|| bad("the rank is not a number"))?;
        if token.is_empty() {
            return Err(bad("the token is empty"));
        }
        if ranks.insert(token, rank).is_some() {
            return Err(bad("the token was there before"));
        }
        taken.push(rank);
    }
    taken.sort_unstable();
    if let Some(at) = taken.iter().zip(0..).position(|(rank, expected)| *rank != expected) {
        return Err(invalid(format!("{} tokens whose ranks do not count from 0: no single {at}", taken.len())));
    }
    if let Some(byte) = (0..=u8::MAX).find(|byte| !ranks.contains_key(&[*byte][..])) {
        return Err(invalid(format!("no token for the byte {byte}")));
    }
    Ok(ranks)
}

/// The two parts that each token is joined from, in the order of ranks; without tokens that are never joined.
fn merges(ranks: &Ranks) -> Vec<(&[u8], &[u8])> {
    let mut tokens: Vec<_> = ranks.iter().filter(|(token, _)| token.len() > 1).collect();
    tokens.sort_unstable_by_key(|(_, rank)| **rank);
    tokens.into_iter().filter_map(|(token, _)| parts(ranks, token)).collect()
}

/// Joins the bytes of a token as tiktoken does until two parts are left; none if it ends with more.
fn parts<'a>(ranks: &Ranks, token: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let rank = |from: usize, to: usize| ranks.get(&token[from..to]).copied().unwrap_or(u32::MAX);
    let mut starts: Vec<usize> = (0..=token.len()).collect();
    // By part: the rank of it and the next one together.
    let mut joined: Vec<u32> = starts.windows(3).map(|ends| rank(ends[0], ends[2])).collect();
    while joined.len() > 1 {
        let (at, best) = joined.iter().copied().enumerate().min_by_key(|(_, rank)| *rank)?;
        if best == u32::MAX {
            return None;
        }
        starts.remove(at + 1);
        joined.remove(at);
        let pair = |at: usize| rank(starts[at], starts[at + 2]);
        if at < joined.len() {
            joined[at] = pair(at);
        }
        if at > 0 {
            joined[at - 1] = pair(at - 1);
        }
    }
    Some(token.split_at(starts[1]))
}

fn invalid(reason: String) -> TextError {
    TextError::Invalid { file: TIKTOKEN_FILE, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn file(tokens: &[&[u8]]) -> Vec<u8> {
        let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
        let all = bytes.chain(tokens.iter().map(|token| token.to_vec())).enumerate();
        all.map(|(rank, token)| format!("{} {rank}\n", BASE64_STANDARD.encode(token))).collect::<String>().into_bytes()
    }

    /// tiktoken's own way with a piece.
    fn tiktoken(ranks: &Ranks, piece: &[u8]) -> Vec<u32> {
        if let Some(rank) = ranks.get(piece) {
            return vec![*rank];
        }
        let mut parts: Vec<&[u8]> = piece.chunks(1).collect();
        let joined = |pair: &[&[u8]]| ranks.get(&pair.concat()).copied();
        while let Some((_, at)) = parts.windows(2).enumerate().filter_map(|(at, pair)| Some((joined(pair)?, at))).min()
        {
            let length = parts[at].len() + parts[at + 1].len();
            let start: usize = parts[..at].iter().map(|part| part.len()).sum();
            parts.splice(at..at + 2, [&piece[start..start + length]]);
        }
        parts.into_iter().map(|part| ranks[part]).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        /// Of any tokens, in any order of ranks: also such as no training would give.
        #[test]
        fn every_piece_is_joined_as_tiktoken_joins_it(
            tokens in proptest::collection::vec("[ab]{2,6}|[abc]{2,4}", 1..40),
            pieces in proptest::collection::vec("[abc]{1,24}", 1..20),
        ) {
            let mut seen = HashSet::new();
            let tokens: Vec<&[u8]> = tokens.iter().map(String::as_bytes).filter(|token| seen.insert(*token)).collect();
            let file = file(&tokens);
            let (tokenizer, ranks) = (read(&file).unwrap(), ranks(&file).unwrap());
            for piece in pieces {
                let ids = tokenizer.encode_fast(piece.as_str(), false).unwrap().get_ids().to_vec();
                prop_assert_eq!(ids, tiktoken(&ranks, piece.as_bytes()), "{}", piece);
            }
        }
    }

    #[test]
    fn a_token_that_no_join_leads_to_is_met_as_a_whole_piece_only() {
        let tokenizer = read(&file(&[b"abc"])).unwrap();
        let ids = |text: &str| tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec();

        assert_eq!(ids("abc"), [256]);
        assert_eq!(ids("abca"), [97, 98, 99, 97]);
    }

    #[test]
    fn a_broken_file_is_refused_with_its_line() {
        let said = |file: &[u8]| read(file).unwrap_err().to_string();
        let with = |line: &[u8]| [&file(&[])[..], line].concat();

        assert_eq!(said(b"YQ== 0 1"), "invalid `tiktoken.model`: line 1: not a token and a rank");
        assert!(said(&with(b"Y! 256")).ends_with("line 257: the token is not base64"));
        assert!(said(&with(b"YWI= x")).ends_with("line 257: the rank is not a number"));
        assert!(said(&with(b"YQ== 256")).ends_with("line 257: the token was there before"));
        assert!(said(&with(b"YWI= 257")).ends_with("257 tokens whose ranks do not count from 0: no single 256"));
        assert!(said(&with(b"YWI= 0")).ends_with("no single 1"));
        assert!(said(b"YQ== 0").ends_with("no token for the byte 0"));
        assert!(said(b"").ends_with("no token for the byte 0"));
    }
}
