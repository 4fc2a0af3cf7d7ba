use super::*;
use proptest::prelude::*;
use std::collections::HashSet;

const BLOCK: usize = 4;

fn accounts(num_blocks: usize) -> KvAccounts {
    accounts_of(num_blocks, BLOCK.into())
}

fn accounts_of(num_blocks: usize, spans: BlockSpans) -> KvAccounts {
    KvAccounts::new(num_blocks, spans, 42, true, KvEpoch::default())
}

fn admit(accounts: &mut KvAccounts, seq: u64, tokens: &[u32]) -> Grant {
    let rows = vec![ReserveRow::Admit { seq: SeqId(seq), tokens: tokens.into(), reuse: true, turns: Arc::default() }];
    accounts.reserve(&Reserve { rows, epoch: accounts.epoch(), ..Reserve::default() }).rows.remove(0)
}

fn commit(accounts: &mut KvAccounts, seq: u64, tokens: &[u32]) {
    accounts.commit(accounts.epoch(), &[CommitRow { seq: SeqId(seq), tokens: tokens.to_vec() }]);
}

fn prompt(len: u32) -> Vec<u32> {
    (0..len).collect()
}

#[test]
fn a_committed_prefix_is_found_by_the_next_prompt() {
    let mut kv = accounts(16);
    admit(&mut kv, 1, &prompt(10));
    commit(&mut kv, 1, &prompt(10));

    let Grant::Admitted { cached_tokens, .. } = admit(&mut kv, 2, &prompt(12)) else { panic!("admitted") };

    assert_eq!(cached_tokens, 8);
}

#[test]
fn the_last_token_of_a_prompt_is_always_computed() {
    let mut kv = accounts(16);
    admit(&mut kv, 1, &prompt(8));
    commit(&mut kv, 1, &prompt(8));

    let Grant::Admitted { cached_tokens, .. } = admit(&mut kv, 2, &prompt(8)) else { panic!("admitted") };

    assert_eq!(cached_tokens, 4);
}

#[test]
fn cached_blocks_outlive_their_sequence_and_go_tail_first() {
    let mut kv = accounts(3);
    admit(&mut kv, 1, &prompt(12));
    commit(&mut kv, 1, &prompt(12));
    kv.release(SeqId(1), kv.epoch());
    assert_eq!(kv.usage().blocks.cached, 3);

    // One block of another prompt takes the tail of the cached one.
    admit(&mut kv, 2, &[99]);
    kv.release(SeqId(2), kv.epoch());
    let Grant::Admitted { cached_tokens, .. } = admit(&mut kv, 3, &prompt(12)) else { panic!("admitted") };

    assert_eq!(cached_tokens, 8);
    assert_eq!(kv.usage().evicted_blocks, 1);
}

#[test]
fn a_large_admission_is_not_overtaken() {
    let mut kv = accounts(4);
    let row = |seq, len| ReserveRow::Admit {
        seq: SeqId(seq),
        tokens: prompt(len).into(),
        reuse: true,
        turns: Arc::default(),
    };

    let granted = kv.reserve(&Reserve { rows: vec![row(1, 20), row(2, 4)], ..Reserve::default() });

    assert_eq!(granted.rows, [Grant::Denied { seq: SeqId(1) }, Grant::Denied { seq: SeqId(2) }]);
    assert_eq!(kv.usage().blocks.free, 4);
}

#[test]
fn a_fork_shares_full_blocks_and_copies_the_last() {
    let mut kv = accounts(8);
    let Grant::Admitted { blocks: parent, .. } = admit(&mut kv, 1, &prompt(6)) else { panic!("admitted") };
    let rows = vec![ReserveRow::Fork { seq: SeqId(2), parent: SeqId(1), tokens: 6 }];

    let granted = kv.reserve(&Reserve { rows, ..Reserve::default() });

    let [Grant::Forked { blocks, copy: Some(copy), .. }] = &granted.rows[..] else { panic!("forked: {granted:?}") };
    assert_eq!(blocks[0], parent[0]);
    assert_eq!(*copy, BlockMove { from: parent[1], to: blocks[1] });
    assert_eq!(kv.usage().blocks.held, 3);
}

#[test]
fn an_older_epoch_changes_nothing() {
    let mut kv = accounts(8);
    admit(&mut kv, 1, &prompt(6));
    let old = kv.epoch();
    kv.invalidate(KvEpoch(old.0 + 1));
    admit(&mut kv, 1, &prompt(6));

    kv.release(SeqId(1), old);
    kv.commit(old, &[CommitRow { seq: SeqId(1), tokens: prompt(6) }]);

    assert_eq!(kv.usage().blocks, BlockCounts { total: 8, free: 6, held: 2, cached: 0 });
    let stale = kv.reserve(&Reserve {
        epoch: old,
        rows: vec![ReserveRow::Admit { seq: SeqId(2), tokens: prompt(2).into(), reuse: true, turns: Arc::default() }],
        ..Reserve::default()
    });
    assert_eq!(stale.rows, [Grant::Denied { seq: SeqId(2) }]);
}

#[test]
fn larger_blocks_behind_the_first_ones_are_shared_as_wholes() {
    let mut kv = accounts_of(16, BlockSpans::new(2, 4, 8));
    admit(&mut kv, 1, &prompt(20));
    commit(&mut kv, 1, &prompt(15));

    // 4 + 4 positions, and the block of eight behind them once it is full.
    let cached = |grant: Grant| match grant {
        Grant::Admitted { blocks, cached_tokens, .. } => (blocks.len(), cached_tokens),
        other => panic!("{other:?}"),
    };
    assert_eq!(cached(admit(&mut kv, 2, &prompt(20))), (4, 8));
    commit(&mut kv, 1, &(15..20).collect::<Vec<_>>());
    assert_eq!(cached(admit(&mut kv, 3, &prompt(20))), (4, 16));
}

#[derive(Debug, Clone)]
enum Op {
    Admit { prompt: usize, len: usize },
    Extend { nth: usize, by: usize },
    Fork { nth: usize },
    Commit { nth: usize, by: usize },
    Release { nth: usize },
    ClearCached,
    Invalidate,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3usize, 1..30usize).prop_map(|(prompt, len)| Op::Admit { prompt, len }),
        4 => (any::<usize>(), 1..6usize).prop_map(|(nth, by)| Op::Extend { nth, by }),
        2 => any::<usize>().prop_map(|nth| Op::Fork { nth }),
        4 => (any::<usize>(), 1..12usize).prop_map(|(nth, by)| Op::Commit { nth, by }),
        4 => any::<usize>().prop_map(|nth| Op::Release { nth }),
        1 => Just(Op::ClearCached),
        1 => Just(Op::Invalidate),
    ]
}

/// What a sequence should look like, kept the naive way.
#[derive(Debug, Clone)]
struct Model {
    seq: SeqId,
    tokens: Vec<u32>,
    committed: usize,
    blocks: Vec<BlockId>,
}

fn check(kv: &KvAccounts, live: &[Model]) {
    let counts = kv.usage().blocks;
    assert_eq!(counts.free + counts.held + counts.cached, counts.total);
    let held: HashSet<BlockId> = live.iter().flat_map(|model| model.blocks.iter().copied()).collect();
    assert_eq!(counts.held, held.len());
    for &block in &held {
        let tables = live.iter().filter(|model| model.blocks.contains(&block)).count();
        assert_eq!(kv.pool.references(block) as usize, tables, "references of {block} are its tables");
    }
    for model in live {
        let distinct: HashSet<_> = model.blocks.iter().collect();
        assert_eq!(distinct.len(), model.blocks.len(), "no block stands twice in a table");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn accounting_holds_under_random_operations(
        head in 0..4usize,
        times in 1..4usize,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let spans = BlockSpans::new(head, BLOCK, times * BLOCK);
        let mut kv = accounts_of(24, spans);
        let mut live: Vec<Model> = Vec::new();
        let mut next = 0u64;
        for op in ops {
            let epoch = kv.epoch();
            match op {
                Op::Admit { prompt, len } => {
                    // Prompts of the same number share their beginning, others share nothing.
                    let tokens: Vec<u32> = (0..len as u32).map(|i| prompt as u32 * 1000 + i).collect();
                    next += 1;
                    if let Grant::Admitted { seq, blocks, cached_tokens, .. } = admit(&mut kv, next, &tokens) {
                        prop_assert!(cached_tokens < tokens.len() && spans.start(spans.full(cached_tokens)) == cached_tokens);
                        prop_assert_eq!(blocks.len(), spans.holding(tokens.len()));
                        live.push(Model { seq, tokens, committed: cached_tokens, blocks });
                    }
                }
                Op::Extend { nth, by } if !live.is_empty() => {
                    let at = nth % live.len();
                    let model = &mut live[at];
                    let tokens = model.tokens.len() + by;
                    let rows = vec![ReserveRow::Extend { seq: model.seq, tokens }];
                    let granted = kv.reserve(&Reserve { rows, epoch, ..Reserve::default() });
                    if let Grant::Extended { blocks, .. } = &granted.rows[0] {
                        model.blocks.extend(blocks);
                        model.tokens.extend((0..by as u32).map(|i| 5000 + i));
                        prop_assert_eq!(model.blocks.len(), spans.holding(tokens));
                    }
                }
                Op::Fork { nth } if !live.is_empty() => {
                    let parent = live[nth % live.len()].clone();
                    next += 1;
                    let rows = vec![ReserveRow::Fork { seq: SeqId(next), parent: parent.seq, tokens: parent.tokens.len() }];
                    let granted = kv.reserve(&Reserve { rows, epoch, ..Reserve::default() });
                    if let Grant::Forked { seq, blocks, .. } = &granted.rows[0] {
                        live.push(Model { seq: *seq, committed: 0, blocks: blocks.clone(), ..parent });
                    }
                }
                Op::Commit { nth, by } if !live.is_empty() => {
                    let at = nth % live.len();
                    let model = &mut live[at];
                    let end = (model.committed + by).min(model.tokens.len());
                    commit(&mut kv, model.seq.0, &model.tokens[model.committed..end]);
                    model.committed = end;
                }
                Op::Release { nth } if !live.is_empty() => {
                    let at = nth % live.len();
                    let model = live.swap_remove(at);
                    kv.release(model.seq, epoch);
                }
                Op::ClearCached => {
                    kv.clear_cached();
                    prop_assert_eq!(kv.usage().blocks.cached, 0);
                }
                Op::Invalidate => {
                    kv.invalidate(KvEpoch(epoch.0 + 1));
                    live.clear();
                }
                _ => {}
            }
            check(&kv, &live);
        }
        for model in live {
            kv.release(model.seq, kv.epoch());
        }
        prop_assert_eq!(kv.usage().blocks.held, 0);
    }
}
