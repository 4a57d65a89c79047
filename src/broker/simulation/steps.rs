//! What may happen next.

use super::ledger::Checked;
use super::world::World;

/// Longest time that passes at once, in ms.
const PASSES_MS_MAX: u64 = 80;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    // Clients.
    Declare,
    Publish,
    Consume,
    Cancel,
    Drain,
    Get,
    End,
    Purge,
    Delete,
    SetPolicy,
    ClearPolicy,
    Pause,
    Browse,
    PurgeFirst,
    Remove,
    Move,
    ChangeArguments,
    Hangup,
    GiveBackLate,
    // What the broker's threads do.
    Activate,
    Timers,
    Bury,
    Load,
    Relieve,
    Store,
    Upkeep,
    Flush,
    // The world.
    TimePasses,
    LosePower,
    Restart,
    // The beginning and the end of a run.
    DeclareExchanges,
    Resume,
    CancelAll,
    GiveAllBack,
    TakeAll,
}

impl Step {
    /// The steps of a run, by their weights.
    pub(super) const CHOICES: &[(usize, Self)] = &[
        (20, Self::Declare),
        (120, Self::Publish),
        (20, Self::Consume),
        (8, Self::Cancel),
        (30, Self::Drain),
        (25, Self::Get),
        (100, Self::End),
        (2, Self::Purge),
        (2, Self::Delete),
        (6, Self::SetPolicy),
        (3, Self::ClearPolicy),
        (3, Self::Pause),
        (4, Self::Resume),
        (3, Self::Browse),
        (3, Self::PurgeFirst),
        (3, Self::Remove),
        (6, Self::Move),
        (4, Self::ChangeArguments),
        (1, Self::Hangup),
        (15, Self::GiveBackLate),
        (30, Self::Activate),
        (60, Self::Timers),
        (60, Self::Bury),
        (40, Self::Load),
        (10, Self::Relieve),
        (200, Self::Store),
        (3, Self::Upkeep),
        (2, Self::Flush),
        (60, Self::TimePasses),
        (6, Self::LosePower),
        (3, Self::Restart),
    ];

    /// What is left to do when no client does anything. Memory is short whenever something was read.
    pub(super) const OF_THREADS: &[Self] = &[
        Self::GiveBackLate,
        Self::Timers,
        Self::Load,
        Self::Relieve,
        Self::Bury,
        Self::Activate,
        Self::Store,
    ];
}

impl World {
    /// Does it. True: there was something to do.
    pub(super) fn take(&mut self, step: Step) -> Checked<bool> {
        match step {
            Step::Declare => Ok(self.declare()),
            Step::Publish => self.publish(),
            Step::Consume => self.consume(),
            Step::Cancel => self.cancel(),
            Step::Drain => Ok(self.drain_outbox()),
            Step::Get => Ok(self.get()),
            Step::End => Ok(self.end_some()),
            Step::Purge => self.purge(),
            Step::Delete => Ok(self.delete()),
            Step::SetPolicy => Ok(self.set_policy()),
            Step::ClearPolicy => Ok(self.clear_policy()),
            Step::Pause => Ok(self.pause()),
            Step::Browse => self.browse(),
            Step::PurgeFirst => Ok(self.purge_first()),
            Step::Remove => self.remove(),
            Step::Move => Ok(self.move_some()),
            Step::ChangeArguments => Ok(self.change_arguments()),
            Step::Hangup => Ok(self.hang_up()),
            Step::GiveBackLate => self.give_back_late(),
            Step::Activate => Ok(self.activate()),
            Step::Timers => Ok(self.ring()),
            Step::Bury => {
                self.facts.buried = self.machine_mut().bury();
                Ok(self.facts.buried.is_some())
            }
            Step::Load => {
                let machine = self.machine.as_ref().expect("it is running");
                Ok(machine.load_step(&mut self.chance))
            }
            Step::Relieve => {
                self.machine().relieve();
                Ok(false)
            }
            Step::Store => Ok(self.store_step()),
            Step::Upkeep => {
                self.machine_mut().store.upkeep();
                Ok(false)
            }
            Step::Flush => {
                self.flush();
                Ok(false)
            }
            Step::TimePasses => {
                let ms = self.chance.between(1, PASSES_MS_MAX);
                self.clock.advance(ms);
                Ok(true)
            }
            Step::LosePower => self.lose_power().map(|()| true),
            Step::Restart => self.restart().map(|()| true),
            Step::DeclareExchanges => Ok(self.declare_exchanges()),
            Step::Resume => Ok(self.resume_one()),
            Step::CancelAll => self.cancel(),
            Step::GiveAllBack => Ok(self.end_all()),
            Step::TakeAll => Ok(self.take_all()),
        }
    }
}
