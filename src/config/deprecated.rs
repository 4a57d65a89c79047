//! RabbitMQ's deprecated features that a configuration can deny (`deprecated_features.permit.NAME = false`).
//!
//! Leveret permits them all unless told otherwise. Names that are not here are accepted and have no effect: what they
//! stand for does not exist in Leveret, or is accepted and ignored.

use std::collections::BTreeMap;

/// A feature that can be denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeprecatedFeature {
    /// Queues that are neither durable nor exclusive. Denied: declaring one is 541, as in RabbitMQ 4.3.
    TransientNonexclusiveQueues,
    /// basic.qos with `global`. Denied: it is taken for one without, as in RabbitMQ 4.3.
    GlobalQos,
}

impl DeprecatedFeature {
    /// RabbitMQ's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TransientNonexclusiveQueues => "transient_nonexcl_queues",
            Self::GlobalQos => "global_qos",
        }
    }

    /// What RabbitMQ 4.3 tells a client that wants it where it is denied.
    pub fn denied_explanation(self) -> String {
        let name = self.name();
        format!(
            "Feature `{name}` is deprecated.\nBy default, this feature is not permitted anymore.\nThe feature will be \
             removed from a future major RabbitMQ version, regardless of the configuration; actual version to be \
             determined.\nTo continue using this feature when it is not permitted by default, set the following \
             parameter in your configuration:\n    \"deprecated_features.permit.{name} = true\""
        )
    }
}

/// What the configuration says of deprecated features, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeprecatedFeatures(BTreeMap<String, bool>);

impl DeprecatedFeatures {
    /// Whether clients may use it.
    pub fn permit(&self, feature: DeprecatedFeature) -> bool {
        self.0.get(feature.name()).copied().unwrap_or(true)
    }
}

impl FromIterator<(String, bool)> for DeprecatedFeatures {
    fn from_iter<I: IntoIterator<Item = (String, bool)>>(given: I) -> Self {
        Self(given.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_permitted_unless_denied_by_name() {
        let given = [
            ("global_qos", false),
            ("transient_nonexcl_queues", true),
            ("ram_node_type", false),
        ];
        let given = given.map(|(name, permitted)| (name.to_owned(), permitted));
        let features = DeprecatedFeatures::from_iter(given);
        assert!(!features.permit(DeprecatedFeature::GlobalQos));
        assert!(features.permit(DeprecatedFeature::TransientNonexclusiveQueues));
        assert!(DeprecatedFeatures::default().permit(DeprecatedFeature::GlobalQos));
    }
}
