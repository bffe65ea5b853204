//! Memory of processes.

/// The resident anonymous memory of a process in KiB: what it has allocated, without the pages of its binary, which become resident when
/// they are executed for the first time.
pub(crate) fn anonymous(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
