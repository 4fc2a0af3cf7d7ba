//! Loading weights for the native executor.

mod support;

use lmx_runtime::checkpoint::LoadError;
use lmx_runtime::config::{ComputeMode, HugePages};
use lmx_runtime::runner::native::{LoadOptions, NativeModel};
use lmx_runtime::runner::{LoadProgress, Threads};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use support::fixture;

fn options(threads: usize) -> LoadOptions {
    Threads::anywhere(NonZeroUsize::new(threads).unwrap()).into()
}

fn load(
    fixture: &fixture::Fixture,
    options: &LoadOptions,
    progress: &mut dyn FnMut(LoadProgress),
) -> Result<Arc<NativeModel>, LoadError> {
    NativeModel::load(&fixture.checkpoint(), ComputeMode::Int16, options, progress)
}

#[test]
fn progress_never_falls_and_ends_with_all_bytes() {
    for fixture in fixture::all() {
        for options in [options(1), options(3), LoadOptions { mapped: true, ..options(1) }] {
            let mut seen: Vec<LoadProgress> = Vec::new();
            load(&fixture, &options, &mut |progress| seen.push(progress)).unwrap();
            assert!(seen.is_sorted_by_key(|progress| progress.done_bytes), "{}", fixture.name);
            let last = seen.last().unwrap();
            assert_eq!(last.done_bytes, last.total_bytes, "{} {options:?}", fixture.name);
        }
    }
}

#[test]
fn a_load_that_nobody_waits_for_ends() {
    let fixture = fixture::named("qwen3-q3g64");
    let caught = catch_unwind(AssertUnwindSafe(|| load(&fixture, &options(2), &mut |_| panic!("given up"))));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"given up"));
}

#[test]
fn memory_without_the_advice_holds_the_same_model() {
    let fixture = fixture::named("llama-q4g64");
    let options = LoadOptions { huge_pages: HugePages::Off, ..options(2) };
    load(&fixture, &options, &mut |_| {}).unwrap();
}

#[test]
#[cfg(target_os = "linux")]
fn huge_pages_are_there_or_the_load_says_what_refuses_them() {
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let given = setting.is_ok_and(|setting| !setting.contains("[never]"));
    let options = LoadOptions { huge_pages: HugePages::On, ..options(1) };
    match load(&fixture::named("llama-q4g64"), &options, &mut |_| {}) {
        Ok(_) => assert!(given),
        Err(error) => {
            assert!(!given && error.to_string().contains("`compute.huge_pages` is on"), "{error}");
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_core_that_is_not_there_ends_the_load() {
    let options: LoadOptions = Threads::on(&[1023]).unwrap().into();
    let error = load(&fixture::named("llama-q4g64"), &options, &mut |_| {}).unwrap_err();
    assert_eq!(error.outcome(), "loader_crashed");
}
