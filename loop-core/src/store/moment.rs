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

    pub(crate) fn elapsed(self) -> Duration {
        self.steady.elapsed().max(self.wall.elapsed().unwrap_or_default())
    }
}
