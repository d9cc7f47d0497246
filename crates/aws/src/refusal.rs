//! What AWS says when it does not do what it was asked, and what to make of it.

use std::fmt;

/// An error code as AWS wrote it, for example `InsufficientInstanceCapacity`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorCode(String);

impl ErrorCode {
    /// Takes a code from an answer.
    pub fn new(code: impl Into<String>) -> Self {
        Self(code.into())
    }

    /// The code's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One refusal: AWS understood the request, and said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it means for the caller.
    pub kind: RefusalKind,
    /// AWS's word for it.
    pub code: ErrorCode,
    /// AWS's explanation, for a person.
    pub message: String,
}

impl Refusal {
    /// Takes what an answer said.
    pub fn new(code: ErrorCode, message: String) -> Self {
        Self {
            kind: RefusalKind::of(&code),
            code,
            message,
        }
    }

    /// An answer without success that names no code, as a proxy on the way may give it.
    pub(crate) fn unnamed(status: u16) -> Self {
        let kind = match status {
            429 => RefusalKind::Throttled,
            401 | 403 => RefusalKind::Denied,
            500.. => RefusalKind::Internal,
            _ => RefusalKind::Unclassified,
        };
        Self {
            kind,
            code: ErrorCode::new(status.to_string()),
            message: "the answer names no error".to_owned(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.message)
    }
}

/// What a refusal means for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// Too many requests: the same one succeeds later.
    Throttled,
    /// There is no room of this kind in this place now; another type or zone may have some.
    Capacity,
    /// The account, the subnet or the host may not have more of this.
    Quota,
    /// What the request names is not there, or not seen yet.
    NotFound,
    /// What the request names is in use, or not yet, or not any more, in the state that this needs.
    WrongState,
    /// The client token was used with other parameters before.
    IdempotencyMismatch,
    /// What the client token made has ended.
    TokenSpent,
    /// The credentials do not allow this.
    Denied,
    /// The credentials, or the signature's time, have run out: new ones may do.
    Expired,
    /// The request can never succeed as it stands.
    Invalid,
    /// AWS itself failed.
    Internal,
    /// A code that this table does not have.
    Unclassified,
}

impl RefusalKind {
    /// Looks a code up.
    pub fn of(code: &ErrorCode) -> Self {
        match code.as_str() {
            "RequestLimitExceeded"
            | "Throttling"
            | "ThrottlingException"
            | "ThrottledException"
            | "RequestThrottled"
            | "RequestThrottledException"
            | "RequestThrottlingException"
            | "TooManyRequestsException"
            | "SlowDown"
            | "SnapshotCreationPerVolumeRateExceeded"
            | "EC2ThrottledException" => Self::Throttled,

            "InsufficientInstanceCapacity"
            | "InsufficientCapacity"
            | "InsufficientHostCapacity"
            | "InsufficientReservedInstanceCapacity"
            | "InsufficientCapacityOnHost"
            | "ReservationCapacityExceeded"
            | "InsufficientFreeAddressesInSubnet"
            | "InsufficientAddressCapacity"
            | "SpotMaxPriceTooLow"
            | "MaxSpotInstanceCountExceeded"
            // This type is not offered in the zone of this subnet; in another it may be.
            | "Unsupported" => Self::Capacity,

            "InstanceLimitExceeded"
            | "VcpuLimitExceeded"
            | "VolumeLimitExceeded"
            | "MaxIOPSLimitExceeded"
            | "NetworkInterfaceLimitExceeded"
            | "AddressLimitExceeded"
            | "SnapshotLimitExceeded"
            | "TagLimitExceeded"
            | "ServiceQuotaExceededException" => Self::Quota,

            // Without a suffix: of an instance that is still pending.
            "InvalidInstanceID"
            | "IncorrectInstanceState"
            | "IncorrectState"
            | "InvalidIPAddress.InUse"
            | "Resource.AlreadyAssociated" => Self::WrongState,

            "IdempotentParameterMismatch" | "ConflictException" => Self::IdempotencyMismatch,
            "IdempotentInstanceTerminated" => Self::TokenSpent,

            "UnauthorizedOperation"
            | "AccessDenied"
            | "AccessDeniedException"
            | "AuthFailure"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "SignatureDoesNotMatch"
            | "MissingAuthenticationToken"
            | "OptInRequired"
            | "PendingVerification"
            | "Blocked" => Self::Denied,

            "RequestExpired" | "ExpiredToken" | "ExpiredTokenException" => Self::Expired,

            "InternalError"
            | "InternalFailure"
            | "InternalServerError"
            | "InternalServerException"
            | "ServiceUnavailable"
            | "Unavailable"
            | "RequestTimeout" => Self::Internal,

            "ValidationException" | "ValidationError" => Self::Invalid,
            "ResourceNotFoundException" => Self::NotFound,
            code => Self::of_family(code),
        }
    }

    /// EC2's codes name their subject first: `InvalidInstanceID.NotFound`, `InvalidAMIID.Malformed`.
    fn of_family(code: &str) -> Self {
        if code.ends_with(".NotFound") || code.ends_with(".Unknown") || code.ends_with("NotFound") {
            Self::NotFound
        } else if code.starts_with("Invalid")
            || code.starts_with("Missing")
            || code.starts_with("Unknown")
            || code.starts_with("UnsupportedOperation")
            || code.ends_with("Malformed")
        {
            Self::Invalid
        } else if code.ends_with("LimitExceeded") {
            Self::Quota
        } else {
            Self::Unclassified
        }
    }

    /// Whether the same request may succeed a moment later, with nobody changing anything.
    ///
    /// No room is not among them: the caller has other types and zones to try first. Nor is an unclassified code; the
    /// status of its answer decides.
    pub fn retryable(self) -> bool {
        match self {
            Self::Throttled | Self::Expired | Self::Internal => true,
            Self::Capacity
            | Self::Quota
            | Self::NotFound
            | Self::WrongState
            | Self::IdempotencyMismatch
            | Self::TokenSpent
            | Self::Denied
            | Self::Invalid
            | Self::Unclassified => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        for (code, kind) in [
            ("RequestLimitExceeded", RefusalKind::Throttled),
            ("InsufficientInstanceCapacity", RefusalKind::Capacity),
            ("VcpuLimitExceeded", RefusalKind::Quota),
            ("InvalidInstanceID.NotFound", RefusalKind::NotFound),
            ("InvalidAMIID.Malformed", RefusalKind::Invalid),
            ("InvalidAllocationID.NotFound", RefusalKind::NotFound),
            ("InvalidIPAddress.InUse", RefusalKind::WrongState),
            ("AddressLimitExceeded", RefusalKind::Quota),
            ("InvalidParameterCombination", RefusalKind::Invalid),
            ("IdempotentParameterMismatch", RefusalKind::IdempotencyMismatch),
            ("UnauthorizedOperation", RefusalKind::Denied),
            ("RequestExpired", RefusalKind::Expired),
            ("InternalError", RefusalKind::Internal),
            ("SomethingNew", RefusalKind::Unclassified),
        ] {
            assert_eq!(RefusalKind::of(&ErrorCode::new(code)), kind, "{code}");
        }
    }

    #[test]
    fn what_time_cures_is_repeated() {
        let kind = |code| RefusalKind::of(&ErrorCode::new(code));
        assert!(kind("Throttling").retryable() && kind("Unavailable").retryable());
        assert!(!kind("InsufficientInstanceCapacity").retryable() && !kind("SomethingNew").retryable());
    }
}
