use serde::Serialize;
use sysinfo::{CpuRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

/// What figures were measured on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Operating system.
    pub os: &'static str,
    /// Kind of processor.
    pub arch: &'static str,
    /// The processor's own name.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let kinds = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing());
        let mut system = System::new_with_specifics(kinds);
        system.refresh_memory();
        Self {
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            processor: system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()).unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            memory_bytes: system.total_memory(),
        }
    }
}

/// Memory of this process that stands in the machine's, in bytes; `None` where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    let pid = sysinfo::get_current_pid().ok()?;
    let mut system = System::new();
    let kinds = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kinds);
    Some(system.process(pid)?.memory())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_stands_in_memory_that_the_machine_has() {
        let machine = Machine::here();
        let resident = resident_bytes().unwrap();
        assert!(machine.cores >= 1 && resident > 1 << 20 && resident < machine.memory_bytes, "{machine:?} {resident}");
    }
}
