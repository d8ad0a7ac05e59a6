//! filebell from outside: one test binary, a module a subject.

mod house;
mod promise;
mod readme;
mod receiver;
