//! xdprobe: a UDP ping/pong prober that speaks nanoprobe's protocol over AF_XDP.
//!
//! One room a line; dependencies point downwards:
//!
//! * [`cli`]: arguments → a checked configuration; every rule about flags
//! * [`probe`]: the hot loop that joins session, path and record; pacing, CPU, signals
//! * [`sweep`]: latency under load, step by step
//! * [`caps`]: what card, driver and kernel can do for probing, put into words
//! * [`compare`]: AF_XDP beside the kernel's UDP, in alternating rounds
//! * [`report`]: what the logs of a session say, put together
//! * [`session`]: who says what when, as state machines without socket or clock
//! * [`path`]: how a datagram gets out and in: AF_XDP behind a steering program, or the kernel's UDP
//! * [`live`]: what a running session shows: a line a second, intervals, metrics
//! * [`tune`]: what a run sets up for itself where the defaults cost latency
//! * [`net`]: what the kernel knows: interface, route, neighbour, capabilities
//! * [`page`]: tables and pictures as one self-contained HTML file
//! * [`record`]: the CSV log, its meta file, statistics
//! * [`stats`]: many durations as few numbers
//! * [`clock`]: points in time with their clock in the type
//! * [`wire`]: bytes ↔ types
#![deny(unsafe_code)]

pub mod caps;
pub mod cli;
pub mod clock;
pub mod compare;
pub mod live;
pub mod net;
pub mod page;
pub mod path;
pub mod probe;
pub mod record;
pub mod report;
pub mod session;
pub mod stats;
pub mod sweep;
pub mod tune;
pub mod wire;
