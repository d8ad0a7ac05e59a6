//! filebell from outside: one test binary, a module a subject.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a test may fail, and its modules are nobody's interface"
)]

mod blindness;
mod cli;
mod clients;
mod crash;
mod hostile;
mod house;
mod live;
mod observe;
mod pages;
mod promise;
mod readme;
mod receiver;
mod sagex3_app;
mod size;
mod uploads;
mod writers;
