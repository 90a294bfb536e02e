//! What the kernel says of a process: processor time, memory, descriptors; and where it may run.

use std::fs;
use std::io;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Processor time of all threads of a process so far, kernel work on its behalf included, to the nanosecond.
///
/// # Errors
/// The process is gone.
pub fn cpu(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for task in tasks(pid)? {
        // A thread may end between the listing and the reading.
        let line = fs::read_to_string(format!("/proc/{pid}/task/{task}/schedstat")).unwrap_or_default();
        nanoseconds += line.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0_u64);
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Memory of a process in RAM, pages that it shares counted in part, bytes.
///
/// # Errors
/// The process is gone.
pub fn memory(pid: u32) -> io::Result<u64> {
    let map = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(kibibytes(&map, "Pss:").unwrap_or(0) * 1024)
}

/// The most memory that a process ever had in RAM, or since that mark was last set back, bytes.
///
/// # Errors
/// The process is gone.
pub fn peak(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    Ok(kibibytes(&status, "VmHWM:").unwrap_or(0) * 1024)
}

/// Open descriptors of a process.
///
/// # Errors
/// The process is gone.
pub fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Bytes that a process has read from anywhere, sockets included.
///
/// # Errors
/// The process is gone.
pub fn bytes_read(pid: u32) -> io::Result<u64> {
    let io = fs::read_to_string(format!("/proc/{pid}/io"))?;
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")?.parse().ok());
    read.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Lets all threads of a process run on this core only; what they start inherits it.
///
/// # Errors
/// There is no such core, or the process is gone.
pub fn pin(pid: u32, core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core)?;
    for task in tasks(pid)? {
        sched_setaffinity(Pid::from_raw(task), &set)?;
    }
    Ok(())
}

/// Whether nobody who wakes takes the core from a process before its time is over: `chrt` was there and did it.
///
/// On a core that several share, each message would otherwise wake its receiver at once and put its sender to sleep,
/// and a proxy would be measured with a switch of tasks at each of its writes, which it has not on a core of its own.
pub fn run_in_batches(pid: u32, yes: bool) -> bool {
    let policy = if yes { "--batch" } else { "--other" };
    let chrt = Command::new("chrt").args([policy, "--all-tasks", "--pid", "0", &pid.to_string()]).output();
    chrt.is_ok_and(|output| output.status.success())
}

/// Lets all threads of this process run on the cores that it was started with, as any other process.
///
/// # Errors
/// A core was taken away.
pub fn unpin() -> io::Result<()> {
    static AT_START: OnceLock<Option<CpuSet>> = OnceLock::new();
    let Some(set) = AT_START.get_or_init(|| sched_getaffinity(Pid::from_raw(0)).ok()) else { return Ok(()) };
    for task in tasks(std::process::id())? {
        sched_setaffinity(Pid::from_raw(task), set)?;
    }
    run_in_batches(std::process::id(), false);
    Ok(())
}

/// Cores that this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The machine in a line: cores, processor, kernel.
pub fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let name = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let memory = kibibytes(&read("/proc/meminfo"), "MemTotal:").unwrap_or(0) >> 20;
    let name = name.trim_start_matches(['\t', ' ', ':']);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or_default();
    format!("{} cores, {name}, {memory} GiB, Linux {}, load {load}", cores_of_machine(&cpus), kernel.trim())
}

fn cores_of_machine(cpuinfo: &str) -> usize {
    cpuinfo.lines().filter(|line| line.starts_with("processor")).count()
}

fn tasks(pid: u32) -> io::Result<Vec<i32>> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_this_process() {
        let me = std::process::id();
        assert!(cpu(me).expect("it runs") > Duration::ZERO);
        assert!(memory(me).expect("it runs") > 100_000);
        assert!(descriptors(me).expect("it runs") >= 3);
        assert!(cpu(u32::MAX).is_err());
    }
}
