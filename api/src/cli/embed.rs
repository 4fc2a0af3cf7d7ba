//! `lmx embed`: vectors of texts, without a server.

use super::args::Outcome;
use super::args_encode::{EmbedArgs, TextPurpose, VectorFormat};
use super::encode::{Text, load, read_texts};
use super::terminal::fail;
use lmx_runtime::pooling::{Cut, Purpose, Side};
use serde::Serialize;
use std::io::{BufWriter, Write};
use std::path::Path;

/// A text's vector, as a line.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a Path>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    tokens: usize,
    embedding: &'a [f32],
}

/// Runs the command.
pub fn run(args: &EmbedArgs) -> Outcome {
    embed(args).unwrap_or_else(|outcome| outcome)
}

fn embed(args: &EmbedArgs) -> Result<Outcome, Outcome> {
    let texts = read_texts(&args.files, args.whole)?;
    let mut model = load(&args.model, false, args.compute, &args.config)?;
    let usage = |error: &dyn std::fmt::Display| fail(Outcome::Usage, error);
    let dimensions = model.text.advice.dimensions.check(args.dimensions, model.text.width);
    let dimensions = dimensions.map_err(|error| usage(&error))?;
    let purpose = match (&args.prompt_name, args.purpose) {
        (Some(name), _) => Purpose::Named(name),
        (None, Some(TextPurpose::Query)) => Purpose::Query,
        (None, Some(TextPurpose::Document)) => Purpose::Document,
        (None, None) => Purpose::Any,
    };
    let cut = if args.truncate { Cut::To { tokens: None, side: Side::Right } } else { Cut::Refuse };
    let mut rows = Vec::with_capacity(texts.len());
    for text in &texts {
        let row = model.text.text(&text.text, purpose, cut);
        rows.push(row.map_err(|error| usage(&format_args!("{}: {error}", text.place())))?);
    }
    let vectors = model.vectors(&rows)?;
    let vectors = model.text.finish(vectors, dimensions, true);
    let tokens: Vec<usize> = rows.iter().map(|row| row.tokens.len()).collect();
    let write = |to: &mut dyn Write| match args.format {
        VectorFormat::Jsonl => write_lines(to, &texts, &tokens, &vectors, dimensions),
        VectorFormat::Npy => write_array(to, &vectors, dimensions),
    };
    let written = match &args.out {
        None => write(&mut BufWriter::new(std::io::stdout().lock())),
        Some(path) => std::fs::File::create(path).and_then(|file| {
            let mut file = BufWriter::new(file);
            write(&mut file)?;
            file.flush()
        }),
    };
    match written {
        Ok(()) => Ok(Outcome::Done),
        // A reader that has gone away (`lmx embed … | head`) is no failure.
        Err(error) if args.out.is_none() && error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Outcome::Done),
        Err(error) => Err(fail(Outcome::Failed, format_args!("cannot write the vectors: {error}"))),
    }
}

fn write_lines(
    to: &mut dyn Write,
    texts: &[Text],
    tokens: &[usize],
    vectors: &[f32],
    dimensions: usize,
) -> std::io::Result<()> {
    for ((text, tokens), embedding) in texts.iter().zip(tokens).zip(vectors.chunks_exact(dimensions)) {
        let line = Line { file: text.file.as_deref(), line: text.line, tokens: *tokens, embedding };
        serde_json::to_writer(&mut *to, &line)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

fn write_array(to: &mut dyn Write, vectors: &[f32], dimensions: usize) -> std::io::Result<()> {
    use npyz::WriterBuilder;
    let shape = [(vectors.len() / dimensions) as u64, dimensions as u64];
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut *to).begin_nd()?;
    writer.extend(vectors.iter().copied())?;
    writer.finish()?;
    to.flush()
}
