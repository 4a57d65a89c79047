//! What an import does, entry by entry, before any of it is done.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Value};

use super::DefinitionsError;
use super::declared::{binding, exchange, queue};
use super::entries::{Planned, global_parameter, parameter, permission, policy, user, vhost};
use super::fields::Fields;
use super::kind::{EntryName, Kind, Selection};
use super::step::Step;
use super::view::{Refusal, View};

/// What becomes of an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is none of its name: it is made.
    Created,
    /// It exists and says the same.
    Same,
    /// It exists and is changed: what differs, with both values.
    Changed(Vec<String>),
    /// It exists, says something else, and stays as it is: the first difference, in the words that refuse such a
    /// declaration.
    Differs(String),
    /// It is not imported.
    Skipped(String),
}

impl Outcome {
    pub(super) fn changed(changes: Vec<String>) -> Self {
        match changes.is_empty() {
            true => Self::Same,
            false => Self::Changed(changes),
        }
    }

    pub(super) fn stays<E: fmt::Display>(compared: Result<(), E>) -> Self {
        compared.map_or_else(|error| Self::Differs(error.to_string()), |()| Self::Same)
    }

    /// With the step that it takes, if it takes one.
    pub(super) fn with(self, step: impl FnOnce() -> Step) -> (Self, Option<Step>) {
        let is_done = matches!(self, Self::Created | Self::Changed(_));
        let step = is_done.then(step);
        (self, step)
    }

    /// One word, and what there is to say beside it.
    fn words(&self) -> (&'static str, String) {
        match self {
            Self::Created => ("create", String::new()),
            Self::Same => ("same", String::new()),
            Self::Changed(changes) => ("change", changes.join("; ")),
            Self::Differs(difference) => ("differs", difference.clone()),
            Self::Skipped(reason) => ("skip", reason.clone()),
        }
    }
}

/// An entry and what becomes of it. Shows itself as a line:
/// `change policies[0] 'p' in vhost '/': priority: 0 becomes 1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedEntry {
    /// Which one.
    pub name: EntryName,
    /// What becomes of it.
    pub outcome: Outcome,
}

impl fmt::Display for PlannedEntry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, more) = self.outcome.words();
        let colon = if more.is_empty() { "" } else { ": " };
        write!(formatter, "{word} {}{colon}{more}", self.name)
    }
}

/// An entry, or the file around it, is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Which entry, if it is one.
    pub entry: Option<EntryName>,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => write!(formatter, "{entry}: {}", self.reason),
            None => formatter.write_str(&self.reason),
        }
    }
}

/// What the import of a file comes to.
#[derive(Default)]
pub struct Plan {
    /// What becomes of each entry that is chosen and right, in the order in which they are imported.
    pub entries: Vec<PlannedEntry>,
    /// All that is wrong. With a mistake nothing is imported.
    pub mistakes: Vec<Mistake>,
    /// Lists that are none of definitions, and are passed over: perhaps a misspelt one.
    pub unknown_lists: Vec<String>,
    /// With the entries that they are taken for.
    pub(super) steps: Vec<(Option<EntryName>, Step)>,
}

/// How many entries of a plan become what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PlanCounts {
    /// [`Outcome::Created`].
    pub created: usize,
    /// [`Outcome::Same`].
    pub same: usize,
    /// [`Outcome::Changed`].
    pub changed: usize,
    /// [`Outcome::Differs`].
    pub differing: usize,
    /// [`Outcome::Skipped`].
    pub skipped: usize,
    /// Mistakes.
    pub mistakes: usize,
}

impl fmt::Display for PlanCounts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            created,
            same,
            changed,
            differing,
            skipped,
            mistakes,
        } = self;
        write!(
            formatter,
            "to create: {created}, the same: {same}, to change: {changed}, differing and left as they are: \
             {differing}, skipped: {skipped}, mistakes: {mistakes}"
        )
    }
}

impl Plan {
    /// How many entries become what.
    pub fn counts(&self) -> PlanCounts {
        let mut counts = PlanCounts {
            mistakes: self.mistakes.len(),
            ..PlanCounts::default()
        };
        for entry in &self.entries {
            *match entry.outcome {
                Outcome::Created => &mut counts.created,
                Outcome::Same => &mut counts.same,
                Outcome::Changed(_) => &mut counts.changed,
                Outcome::Differs(_) => &mut counts.differing,
                Outcome::Skipped(_) => &mut counts.skipped,
            } += 1;
        }
        counts
    }

    /// Plans the entries of a file.
    ///
    /// # Errors
    /// It is no JSON, or no object. What is wrong with its entries is in the plan.
    pub(super) fn of(
        view: &mut View,
        text: &[u8],
        selection: &Selection,
    ) -> Result<Self, DefinitionsError> {
        let mut plan = Self::default();
        let definitions: Value = match text.trim_ascii() {
            // As in RabbitMQ an empty file is no definitions.
            [] => return Ok(plan),
            _ => serde_json::from_slice(text).map_err(DefinitionsError::Malformed)?,
        };
        let Value::Object(definitions) = definitions else {
            return Err(DefinitionsError::NoObject);
        };
        plan.add_own_exchanges(view);
        plan.unknown_lists = unknown_lists(&definitions);
        for kind in Kind::ALL {
            match definitions.get(kind.name()) {
                _ if !selection.has_kind(kind) => {}
                None | Some(Value::Null) => {}
                Some(Value::Array(entries)) => plan.add_list(view, kind, entries, selection),
                Some(_) => plan.mistakes.push(Mistake {
                    entry: None,
                    reason: format!("'{kind}' is not a list"),
                }),
            }
        }
        Ok(plan)
    }

    fn add_list(&mut self, view: &mut View, kind: Kind, entries: &[Value], selection: &Selection) {
        let mut seen = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            if !selection.has(kind, entry) {
                continue;
            }
            let name = EntryName::of(kind, index, entry);
            let first = match &name.name {
                Some(own) if kind != Kind::Bindings => {
                    let key = (name.vhost.clone(), own.clone());
                    *seen.entry(key).or_insert(index)
                }
                _ => index,
            };
            let planned = match entries.get(first) {
                Some(twin) if first != index && twin != entry => Err(Refusal::Mistake(format!(
                    "{kind}[{first}] has the same name and says something else"
                ))),
                Some(_) if first != index => Ok((Outcome::Same, None)),
                _ => plan_entry(view, kind, entry),
            };
            self.add(view, name, planned);
        }
    }

    fn add_own_exchanges(&mut self, view: &mut View) {
        for (vhost, name) in view.make_expected() {
            let vhost = vhost.to_string();
            self.steps.push((None, Step::OwnExchange { vhost, name }));
        }
    }

    fn add(&mut self, view: &mut View, name: EntryName, planned: Planned) {
        let (outcome, step) = match planned {
            Ok(planned) => planned,
            Err(Refusal::Follows) => {
                let reason = "what it belongs to is not imported".to_owned();
                (Outcome::Skipped(reason), None)
            }
            Err(Refusal::Mistake(reason)) => {
                view.leave_out(&name);
                self.mistakes.push(Mistake {
                    entry: Some(name),
                    reason,
                });
                return;
            }
        };
        if matches!(outcome, Outcome::Skipped(_)) {
            view.leave_out(&name);
        }
        if let Some(step) = step {
            self.steps.push((Some(name.clone()), step));
        }
        // A new virtual host may be where the broker tells something.
        self.add_own_exchanges(view);
        self.entries.push(PlannedEntry { name, outcome });
    }
}

fn unknown_lists(definitions: &Map<String, Value>) -> Vec<String> {
    let unknown = definitions.iter().filter(|(key, value)| {
        let is_known = Kind::ALL.iter().any(|kind| kind.name() == key.as_str());
        !is_known && value.is_array()
    });
    unknown.map(|(key, _)| key.clone()).collect()
}

fn plan_entry(view: &mut View, kind: Kind, entry: &Value) -> Planned {
    let fields = Fields::of(entry)?;
    match kind {
        Kind::Users => user(view, &fields),
        Kind::VHosts => vhost(view, &fields),
        Kind::Permissions => permission(view, &fields),
        Kind::TopicPermissions => {
            let reason = "topic permissions have no effect";
            Ok((Outcome::Skipped(reason.into()), None))
        }
        Kind::GlobalParameters => global_parameter(view, &fields),
        Kind::Exchanges => exchange(view, &fields),
        Kind::Policies => policy(view, &fields),
        Kind::Parameters => parameter(view, &fields),
        Kind::Queues => queue(view, &fields),
        Kind::Bindings => binding(view, &fields),
    }
}
