//! A fixed conversation for callgrind, which counts instructions: a figure that a noisy machine cannot hide.
//!
//! Real connections, channels, queues and the real store, on streams in memory and a runtime with one thread. What a
//! row does is the same in every run; `benches/instructions/run` reads what each of them cost.
//!
//! - [`wire`]: the stream, and its other end.
//! - [`broker`]: a broker with connections.
//! - [`conversation`]: who says what.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot be set up cannot be measured"
)]
#![expect(clippy::print_stdout, reason = "the rows are its output")]

mod broker;
mod conversation;
#[path = "../support/mod.rs"]
mod support;
mod wire;

use broker::Broker;
use conversation::Conversation;

/// The allocator of the broker.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Messages that each row publishes, unless the first argument says otherwise. The second names the only row to run.
const MESSAGES: usize = 20_000;

fn main() {
    let messages = std::env::args().nth(1).map(|text| text.parse().unwrap());
    let messages = messages.unwrap_or(MESSAGES);
    let only = std::env::args().nth(2).unwrap_or_default();
    let broker = Broker::start();
    for conversation in [
        Conversation::transient_auto_ack(&broker),
        Conversation::durable_confirmed(&broker),
        Conversation::fanout(&broker),
    ]
    .into_iter()
    .filter(|conversation| conversation.name.starts_with(&only))
    {
        // Queues, caches and pools have the size that they will have.
        conversation.run(&broker, messages / 10);
        measured_row(&broker, &conversation, messages);
        println!(
            "{}\t{}",
            conversation.name,
            conversation.deliveries(messages)
        );
    }
    broker.stop();
}

/// Callgrind starts from zero when this is entered, and writes down what it counted when it is left.
#[inline(never)]
fn measured_row(broker: &Broker, conversation: &Conversation, messages: usize) {
    conversation.run(broker, messages);
}
