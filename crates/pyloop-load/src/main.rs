//! The load client of the socket benchmarks, and the raw servers that are their floor.
//!
//! One program, one thread, one job per run; `benchmarks/pyloop/` starts it beside the server that
//! is measured and reads the one JSON object that it prints. It ends by itself when its standard
//! input is closed, so nothing is left behind when the benchmark is interrupted.
//!
//! * [`echo`], [`udp`]: a fixed number of connections, one request outstanding on each.
//! * [`churn`]: connect, one request, close.
//! * [`bulk`]: one connection, a gigabyte in one direction.
//! * [`idle`]: many connections that were used once and then do nothing.
//! * [`floor`]: what a server costs that has no loop and no Python: epoll, receive, send.

#[cfg(target_os = "linux")]
mod address;
#[cfg(target_os = "linux")]
mod arguments;
#[cfg(target_os = "linux")]
mod bulk;
#[cfg(target_os = "linux")]
mod churn;
#[cfg(target_os = "linux")]
mod cpu;
#[cfg(target_os = "linux")]
mod echo;
#[cfg(target_os = "linux")]
mod floor;
#[cfg(target_os = "linux")]
mod idle;
#[cfg(target_os = "linux")]
mod latency;
#[cfg(target_os = "linux")]
mod payload;
#[cfg(target_os = "linux")]
mod poll;
#[cfg(target_os = "linux")]
mod report;
#[cfg(target_os = "linux")]
mod udp;
#[cfg(target_os = "linux")]
mod window;

#[cfg(target_os = "linux")]
const USAGE: &str = "\
usage: pyloop-load JOB --option value ...

jobs of the client (all: --to ADDRESS [--server PID] [--patience SECONDS])
  echo    --connections N --size BYTES  (--seconds S [--warm-up S] | --requests N)
  udp     the same, by datagrams
  churn   the same, a connection for each request
  sink    --bytes N                     receive N bytes
  source  --bytes N                     send N bytes
  idle    --connections N               hold them until standard input is closed

server
  floor   --listen ADDRESS --service echo|bulk|file|udp [--file PATH]

ADDRESS: 127.0.0.1:port or unix:path. The result is one JSON object on standard output.";

#[cfg(target_os = "linux")]
fn run(words: &[String]) -> Result<(), String> {
    let Some((job, rest)) = words.split_first() else {
        return Err(USAGE.to_owned());
    };
    let arguments = arguments::Arguments::parse(rest)?;
    match job.as_str() {
        "echo" => echo::run(arguments),
        "udp" => udp::run(arguments),
        "churn" => churn::run(arguments),
        "sink" => bulk::sink(arguments),
        "source" => bulk::source(arguments),
        "idle" => idle::run(arguments),
        "floor" => floor::run(arguments),
        _ => Err(USAGE.to_owned()),
    }
}

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_none_or(|word| word == "--help" || word == "help") {
        println!("{USAGE}");
        return std::process::ExitCode::SUCCESS;
    }
    match run(&words) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(problem) => {
            report::Report::error(&problem).print();
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    println!("{{\"error\": \"the load client needs epoll: Linux only\"}}");
    std::process::ExitCode::FAILURE
}
