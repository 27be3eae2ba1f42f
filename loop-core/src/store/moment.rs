use std::time::{Duration, Instant, SystemTime};

/// A moment, by two clocks: the one may stand still while the process is frozen, the other may be set back.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) steady: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self { steady: Instant::now(), wall: SystemTime::now() }
    }

    /// How long it is after an earlier one.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        let by_wall = self.wall.duration_since(earlier.wall).unwrap_or_default();
        self.steady.saturating_duration_since(earlier.steady).max(by_wall)
    }
}
