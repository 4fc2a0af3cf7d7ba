use super::table::{Table, figure, spread};
use lmx_runtime::bench::{
    AttentionFigure, KernelBench, KernelPlan, LimitsFigure, ProductFigure, Spread, measure_limits,
};
use lmx_runtime::checkpoint::LoadError;
use lmx_runtime::config::{ComputeMode, HugePages};
use lmx_runtime::kernels::Form;
use lmx_runtime::model::{AttentionSpec, Blueprint, LayerSpec, ModuleKind, Quantization};
use lmx_runtime::runner::Threads;
use lmx_runtime::runner::native::{ColdMemory, ProductShape};
use serde::Serialize;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::time::Duration;

/// Outputs and inputs of matrices of common small models.
const COMMON: [(usize, usize); 2] = [(3072, 1024), (8192, 2048)];
/// Those of a head.
const COMMON_HEAD: (usize, usize) = (151_936, 1024);
/// Rows of activations: streams that decode together, and chunks of prompts.
const ROWS: [usize; 7] = [1, 2, 4, 8, 16, 64, 512];
/// How long a loop of multiplications runs.
const PEAK_TIME: Duration = Duration::from_millis(100);
/// What no cache holds, where the system does not say how large they are.
const COLD_BYTES: usize = 256 << 20;

/// How fast each kernel is, and what it could be at most.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelReport {
    /// What is not measured, in words.
    pub left_out: Vec<String>,
    /// What the machine could do, measured in the same run.
    pub limits: LimitsFigure,
    /// Products with quantised matrices.
    pub products: Vec<ProductFigure>,
    /// Attention of one layer.
    pub attention: Vec<AttentionFigure>,
}

/// The sizes of a model, in 4 and 8 bits and in its own; without one those of common models.
pub fn kernel_plan(blueprint: Option<&Blueprint>, modes: Option<Vec<ComputeMode>>, repeat: NonZeroUsize) -> KernelPlan {
    let mut quantizations = BTreeSet::from([4, 8].map(|bits| Quantization { bits, group_size: 64 }));
    let (mut sizes, mut head) = (BTreeSet::from(COMMON), COMMON_HEAD);
    let mut attention = AttentionSpec::plain(16, 8, 128);
    if let Some(blueprint) = blueprint {
        sizes.clear();
        head = (blueprint.spec.vocab, blueprint.spec.hidden);
        for (path, module) in blueprint.modules().iter() {
            if module.kind == ModuleKind::Linear && blueprint.head_path() != Some(path) {
                sizes.insert((module.outputs, module.inputs));
            }
            quantizations.extend(ProductShape::of(module).map(|of| of.quantization));
        }
        attention = blueprint.spec.layers.iter().find_map(LayerSpec::attention).map_or(attention, Clone::clone);
    }
    let shapes = |sizes: &BTreeSet<(usize, usize)>| {
        let all = quantizations.iter().flat_map(|&quantization| {
            let fitting = sizes.iter().filter(move |(_, inputs)| inputs % quantization.group_size == 0);
            fitting.map(move |&(outputs, inputs)| ProductShape { outputs, inputs, quantization })
        });
        all.collect()
    };
    KernelPlan {
        shapes: shapes(&sizes),
        heads: shapes(&BTreeSet::from([head])),
        rows: ROWS.to_vec(),
        modes: modes.unwrap_or_else(|| vec![ComputeMode::Int16, ComputeMode::Int8, ComputeMode::F32]),
        attention: Some(attention),
        contexts: vec![128, 2048, 8192],
        prompts: vec![512, 2048],
        cold_bytes: cold_bytes(),
        repeat,
    }
}

/// Measures kernels and, before them, the limits. `said` hears what is going on.
///
/// # Errors
/// [`LoadError`] if there is no memory for it.
pub fn measure_kernels(
    plan: KernelPlan,
    threads: &Threads,
    huge_pages: HugePages,
    said: &mut dyn FnMut(&str),
) -> Result<KernelReport, LoadError> {
    let left_out = plan.left_out();
    said("limits");
    let limits = measure_machine(threads, huge_pages, plan.repeat)?;
    let mut bench = KernelBench::new(Form::best(), threads.clone(), huge_pages, plan)?;
    said("products");
    let products = bench.products()?;
    said("attention");
    Ok(KernelReport { left_out, limits, products, attention: bench.attention()? })
}

/// What this machine could do at most.
///
/// # Errors
/// [`LoadError`] if there is no memory for it.
pub fn measure_machine(
    threads: &Threads,
    huge_pages: HugePages,
    repeat: NonZeroUsize,
) -> Result<LimitsFigure, LoadError> {
    let memory = ColdMemory::new(cold_bytes(), huge_pages)?;
    measure_limits(Form::best(), threads, &memory, PEAK_TIME, repeat)
}

/// Four times what the largest cache holds, and no less than [`COLD_BYTES`].
fn cold_bytes() -> usize {
    let caches = std::fs::read_dir("/sys/devices/system/cpu/cpu0/cache").into_iter().flatten().flatten();
    let sizes = caches.filter_map(|cache| std::fs::read_to_string(cache.path().join("size")).ok());
    let bytes = sizes.filter_map(|size| size.trim().strip_suffix('K')?.parse::<usize>().ok()).map(|kib| kib << 10);
    COLD_BYTES.max(4 * bytes.max().unwrap_or(0))
}

pub(super) fn limits_table(limits: &LimitsFigure) -> Table {
    let LimitsFigure { form, threads, read_bytes, .. } = limits;
    let title = format!("Limits of the machine: {form}, {} MiB read", read_bytes >> 20);
    let mut table = Table::new(title, &["limit", "one thread", &format!("{threads} threads")]);
    let rows = [
        ("memory read, GB/s", &limits.read_gb_per_s_one_thread, &limits.read_gb_per_s),
        ("int8 multiply-add, GOP/s", &limits.byte_gops_one_thread, &limits.byte_gops),
        ("f32 multiply-add, GOP/s", &limits.float_gops_one_thread, &limits.float_gops),
    ];
    for (name, one, all) in rows {
        table.row([name.to_owned(), spread(one), spread(all)]);
    }
    table
}

impl KernelReport {
    pub(super) fn tables(&self) -> Vec<Table> {
        let share = |of: &Spread, limit: &Spread| figure(of.median / limit.median);
        let columns = [
            "matrix",
            "bits",
            "group",
            "mode",
            "rows",
            "us",
            "GB/s",
            "of read",
            "GOP/s",
            "of int8 peak",
            "of f32 peak",
        ];
        let mut products = Table::new("Kernels: products", &columns);
        for of in &self.products {
            products.row([
                format!("{} x {}", of.outputs, of.inputs),
                of.bits.to_string(),
                of.group.to_string(),
                of.mode.to_string(),
                of.rows.to_string(),
                spread(&of.us),
                figure(of.gb_per_s.median),
                share(&of.gb_per_s, &self.limits.read_gb_per_s),
                figure(of.gops.median),
                share(&of.gops, &self.limits.byte_gops),
                share(&of.gops, &self.limits.float_gops),
            ]);
        }
        let columns = ["mode", "context", "tokens", "us", "GB/s", "of read", "GOP/s", "of f32 peak"];
        let mut attention = Table::new("Kernels: attention of a layer", &columns);
        for of in &self.attention {
            attention.row([
                of.mode.to_string(),
                of.context_tokens.to_string(),
                of.tokens.to_string(),
                spread(&of.us),
                figure(of.gb_per_s.median),
                share(&of.gb_per_s, &self.limits.read_gb_per_s),
                figure(of.gops.median),
                share(&of.gops, &self.limits.float_gops),
            ]);
        }
        vec![limits_table(&self.limits), products, attention]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;
    use lmx_runtime::checkpoint::{Checkpoint, Source};

    #[test]
    fn a_models_kernels_have_its_sizes_and_its_bits() {
        let blueprint = Blueprint::read(&Checkpoint::open(&builtin::source()).unwrap()).unwrap();

        let plan = kernel_plan(Some(&blueprint), None, NonZeroUsize::MIN);

        let (vocab, hidden) = (blueprint.spec.vocab, blueprint.spec.hidden);
        assert!(plan.heads.iter().all(|head| (head.outputs, head.inputs) == (vocab, hidden)), "{:?}", plan.heads);
        assert!(!plan.heads.is_empty() && plan.shapes.iter().all(|shape| shape.outputs != vocab), "{:?}", plan.shapes);
        assert!(plan.shapes.iter().all(|shape| shape.inputs % shape.quantization.group_size == 0));
        assert_eq!(plan.attention, blueprint.spec.layers[0].attention().cloned());
        assert!(plan.cold_bytes >= COLD_BYTES);
    }

    #[test]
    fn small_floats_are_measured_as_the_codes_that_they_become() {
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/llama-mxfp4/model");
        let blueprint = Blueprint::read(&Checkpoint::open(&Source::Folder(fixture)).unwrap()).unwrap();

        let plan = kernel_plan(Some(&blueprint), None, NonZeroUsize::MIN);

        let own = Quantization { bits: 5, group_size: 32 };
        for shapes in [&plan.shapes, &plan.heads] {
            assert!(shapes.iter().any(|shape| shape.quantization == own), "{shapes:?}");
        }
    }
}
