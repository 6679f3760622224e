//! The `sock_*` calls of the loop: native coroutines over sockets that the caller owns.
//!
//! A call tries its system call first and waits only if it must. The descriptor's registration is edge-triggered and is kept from
//! call to call. Waiting again is one epoll_ctl(2), which looks at what is ready and finds out whether the descriptor is still the file
//! that was registered; and it is nothing at all where this very pass began with an event of the socket that was received to the last
//! byte, as in a server's loop. Data that nobody waits for wakes the loop once at most. Data is received in the task's own step, so a cancelled call has lost nothing.
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
