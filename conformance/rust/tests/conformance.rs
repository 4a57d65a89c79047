//! Holds a broker to AMQP 0-9-1 as lapin uses it. One file per subject.

mod connect;
mod consume;
mod errors;
mod lifetime;
mod publish;
mod topology;
mod tx;
