//! Sizes and costs as ranges that stay within 64 bits.

/// How large a value is, at least and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub min: u64,
    pub max: u64,
}

/// What something costs, at least and at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: u64,
    pub max: u64,
}

impl Size {
    pub const UNKNOWN: Size = Size { min: 0, max: u64::MAX };

    pub fn fixed(size: u64) -> Size {
        Size { min: size, max: size }
    }

    /// The union of nothing so far.
    pub fn none_yet(will_stay_so: bool) -> Size {
        Size {
            min: if will_stay_so { 0 } else { u64::MAX },
            max: 0,
        }
    }

    pub fn union(self, other: Size) -> Size {
        Size {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    #[allow(
        clippy::should_implement_trait,
        reason = "it saturates, which an operator would hide"
    )]
    pub fn add(self, other: Size) -> Size {
        Size {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    pub fn multiply(self, other: Size) -> Size {
        Size {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    /// The cost of so many of something.
    pub fn times(self, cost: Range) -> Range {
        Range {
            min: self.min.saturating_mul(cost.min),
            max: self.max.saturating_mul(cost.max),
        }
    }

    pub fn scale(self, factor: f64) -> Range {
        Range {
            min: scale(self.min, factor),
            max: scale(self.max, factor),
        }
    }
}

impl Range {
    pub const ZERO: Range = Range { min: 0, max: 0 };

    pub fn fixed(cost: u64) -> Range {
        Range { min: cost, max: cost }
    }

    #[allow(
        clippy::should_implement_trait,
        reason = "it saturates, which an operator would hide"
    )]
    pub fn add(self, other: Range) -> Range {
        Range {
            min: self.min.saturating_add(other.min),
            max: self.max.saturating_add(other.max),
        }
    }

    pub fn multiply(self, other: Range) -> Range {
        Range {
            min: self.min.saturating_mul(other.min),
            max: self.max.saturating_mul(other.max),
        }
    }

    pub fn scale(self, factor: f64) -> Range {
        Range {
            min: scale(self.min, factor),
            max: scale(self.max, factor),
        }
    }

    pub fn union(self, other: Range) -> Range {
        Range {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }
}

/// Rounded up. A cast saturates, as it should here.
pub fn scale(size: u64, factor: f64) -> u64 {
    (size as f64 * factor).ceil() as u64
}
