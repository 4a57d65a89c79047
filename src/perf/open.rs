//! Opening many connections, several at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use amq_protocol::protocol::{AMQPClass, confirm};
use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit, setrlimit};

use super::client::Client;
use super::consumer::Consumer;
use super::error::PerfError;
use super::image::Image;
use super::link::{Link, Role};
use super::meter::Meter;
use super::publisher::Publisher;
use super::settings::Settings;
use super::topology::share;

/// Handshakes that run at the same time.
const THREADS_MAX: usize = 16;

/// Lets this process open as many files as the system allows. Where that is too few, opening the
/// connection says so.
pub(super) fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Opens `count` things, some of them at a time; the first error ends it.
pub(super) fn many<T: Send>(
    count: usize,
    open: impl Fn(usize) -> Result<T, PerfError> + Sync,
) -> Result<Vec<T>, PerfError> {
    let next = AtomicUsize::new(0);
    let opened = Mutex::new((0..count).map(|_| None).collect::<Vec<_>>());
    let run = || -> Result<(), PerfError> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let one = open(number).inspect_err(|_| next.store(count, Ordering::Relaxed))?;
            opened.lock()[number] = Some(one);
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count.min(THREADS_MAX))
            .map(|_| scope.spawn(run))
            .collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<Result<(), PerfError>>()
    })?;
    Ok(opened.into_inner().into_iter().flatten().collect())
}

/// Opens all publishers and consumers and deals them out, one list for each of `meters`.
pub(super) fn links(
    settings: &Settings,
    run: u16,
    meters: &[Arc<Meter>],
) -> Result<Vec<Vec<Link>>, PerfError> {
    let total = settings.publishers + settings.consumers;
    let links = many(total, |number| {
        let meter = meters[number % meters.len()].clone();
        match number.checked_sub(settings.publishers) {
            None => publisher(settings, run, number, meter),
            Some(number) => consumer(settings, run, number, meter),
        }
    })?;
    let mut dealt: Vec<Vec<Link>> = meters.iter().map(|_| Vec::new()).collect();
    for (number, link) in links.into_iter().enumerate() {
        dealt[number % meters.len()].push(link);
    }
    Ok(dealt)
}

fn publisher(
    settings: &Settings,
    run: u16,
    number: usize,
    meter: Arc<Meter>,
) -> Result<Link, PerfError> {
    let mut client = Client::open(&settings.target, format!("perf-publisher-{number}"))?;
    let publishing = &settings.publishing;
    if publishing.window.is_some() {
        let select = confirm::AMQPMethod::Select(confirm::Select { nowait: false });
        client.call(AMQPClass::Confirm(select))?;
    }
    let opened = client.into_opened();
    let topology = &settings.topology;
    let keys = topology.routing_keys(number, settings.publishers)?;
    let image = Image::new(
        topology.exchange_name(),
        &keys,
        publishing,
        opened.frame_bytes_max,
        settings.publishers,
    )?;
    let publisher = Publisher::new(image, run, number as u16, publishing, settings.check, meter);
    Link::new(opened, Role::Publisher(Box::new(publisher)), Vec::new())
}

fn consumer(
    settings: &Settings,
    run: u16,
    number: usize,
    meter: Arc<Meter>,
) -> Result<Link, PerfError> {
    let client = Client::open(&settings.target, format!("perf-consumer-{number}"))?;
    let names = &settings.topology.queues;
    let queues = share(number, settings.consumers, names.len());
    let queues = queues
        .into_iter()
        .map(|queue| (queue as u32, names[queue].clone()))
        .collect();
    let consumer = Consumer::new(queues, run, &settings.consuming, settings.check, meter);
    let mut control = Vec::new();
    consumer.subscribe(&settings.consuming, &mut control);
    Link::new(
        client.into_opened(),
        Role::Consumer(Box::new(consumer)),
        control,
    )
}
