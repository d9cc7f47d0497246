//! Why a peer pod is refused. What is taken out of a pod the API server no longer looks at, so what it would have refused
//! is refused here.

use peerpods_resources::{AnnotationError, QuantityError};

/// Why a peer pod is refused: which field, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A quantity is none.
    #[error("{field}: {source}")]
    Quantity {
        /// The field's path.
        field: String,
        /// What is wrong.
        source: QuantityError,
    },
    /// A quantity is less than nothing.
    #[error("{field}: must be greater than or equal to 0")]
    Negative {
        /// The field's path.
        field: String,
    },
    /// Something that comes in whole pieces is divided.
    #[error("{field}: must be a whole number")]
    Divided {
        /// The field's path.
        field: String,
    },
    /// More is asked for than allowed.
    #[error("{field}: must be less than or equal to the {resource} limit")]
    AboveLimit {
        /// The field's path.
        field: String,
        /// The resource's name.
        resource: String,
    },
    /// What cannot be shared must be asked for as it is limited.
    #[error("{field}: must be equal to the {resource} limit, because {resource} cannot be overcommitted")]
    NotTheLimit {
        /// The field's path.
        field: String,
        /// The resource's name.
        resource: String,
    },
    /// There is no such resource.
    #[error(
        "{field}: {resource:?} is neither cpu, memory, ephemeral-storage or hugepages-SIZE nor a name with a domain"
    )]
    UnknownResource {
        /// The field's path.
        field: String,
        /// The resource's name.
        resource: String,
    },
    /// The sum is more than any VM has.
    #[error("the pod's containers need {amount} {unit} together, more than any virtual machine has")]
    TooMuch {
        /// How much.
        amount: u128,
        /// Of what.
        unit: &'static str,
    },
    /// The annotation of ours is not what we write.
    #[error("metadata.annotations: {0}; remove it, it is written as the pod is created")]
    Annotation(#[from] AnnotationError),
}
