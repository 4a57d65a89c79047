//! The queue with all its features against a simple model: a list of messages, each with a place, in the order in which
//! they are to go out.

mod model;
mod steps;
mod world;

use proptest::prelude::*;

use self::steps::{Finish, Labels, Step, run, settings, step};
use self::world::{GETTER, World};
use super::settings::Settings;
use super::state::Return;

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_with_every_feature_behaves_as_a_list_of_messages(
        settings in settings(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(settings);
        for step in steps {
            run(&mut world, step);
            world.settle_down();
            world.check();
        }
        // In the end everything leaves.
        for holder in 0..world.holders.len() {
            world.cancel(holder);
        }
        for holder in [0, 1, 2, 3, GETTER] {
            world.finish(holder, 1, Finish::Requeue(Return::Released));
        }
        world.settle_down();
        while !world.ready().is_empty() {
            world.get(true);
        }
        world.get(true);
        world.bury(usize::MAX);
        world.check();
        world.settle_down();
        prop_assert!(world.messages.is_empty());
        prop_assert!(world.marks.is_empty(), "marks are left in the store");
        prop_assert_eq!(world.state.ready_bytes(), 0);
    }
}

#[test]
fn a_queue_that_is_emptied_asks_for_nothing_more() {
    let append = |count, size, ttl_ms, id| Step::Append {
        count,
        size,
        priority: 0,
        ttl_ms,
        labels: Labels { group: None, id },
    };
    let steps = [
        append(1, 10, Some(111), None),
        append(12, 3_000, Some(1), None),
        append(1, 3_000, None, None),
        append(1, 10, Some(243), None),
        append(2, 3_000, Some(175), None),
        Step::Tick(33),
        append(4, 10, None, Some(0)),
        append(13, 10, Some(0), None),
        Step::Evict,
        Step::Tick(142),
        Step::Consume {
            no_ack: true,
            prefetch: 0,
            priority: 0,
        },
    ];
    let mut world = World::new(Settings::default());
    for step in steps {
        run(&mut world, step);
        world.settle_down();
        world.check();
    }
    assert_eq!(world.state.ready(), 0);
}
