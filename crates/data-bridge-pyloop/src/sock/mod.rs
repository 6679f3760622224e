//! The `sock_*` calls of the loop: native coroutines over sockets that the caller owns.
//!
//! A call tries its system call first and waits only if it must. The descriptor's registration is one-shot and is kept from call to
//! call: waiting again is one epoll_ctl(2), which also finds out whether the descriptor is still the file that was registered, and
//! data that nobody waits for wakes nobody. Data is received in the task's own step, so a cancelled call has lost nothing.
//!
//! - [`watch`]: who waits for a descriptor, and how they are woken
//! - [`call`]: one call, from its first step to its result; [`call_type`]: what the interpreter sees of it
//! - [`attempt`]: what each call tries; [`file`]: sendfile(2)
//! - [`methods`]: the loop's methods, which make the calls

pub mod attempt;
pub mod call;
pub mod call_type;
#[cfg(target_os = "linux")]
pub mod file;
pub mod methods;
pub mod watch;
