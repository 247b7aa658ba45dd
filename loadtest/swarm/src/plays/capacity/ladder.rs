//! Which load comes next: up until one is too much, and then between the last that held and the first that did not.

use anyhow::{Result, ensure};

/// So many steps of a ramp are enough for anybody.
pub const STEPS_MAX: u64 = 500;

/// From where to where, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Climb {
    /// The first load; at least 1.
    pub from: u64,
    /// The last one.
    pub to: u64,
    /// How one load follows from another.
    pub stride: Stride,
    /// How often to look between the last load that held and the first that did not.
    pub refine: u32,
}

/// How loads grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stride {
    /// By so much; at least 1.
    By(u64),
    /// By this factor; above 1.
    Times(f64),
}

impl Stride {
    fn after(self, load: u64) -> u64 {
        match self {
            Self::By(step) => load.saturating_add(step),
            // However small the load and the factor are, it grows.
            Self::Times(factor) => ((load as f64 * factor).round() as u64).max(load + 1),
        }
    }
}

impl Climb {
    /// Checks that it is one, and ends.
    ///
    /// # Errors
    /// It does not begin below its end, does not grow, or has more than [`STEPS_MAX`] steps.
    pub fn check(&self) -> Result<()> {
        let Self { from, to, stride, .. } = *self;
        ensure!(from >= 1, "--from 0: the first step is a load already");
        ensure!(from <= to, "--from {from} is above --to {to}");
        match stride {
            Stride::By(step) => ensure!(step >= 1, "--step 0: the load would not grow"),
            Stride::Times(factor) => {
                ensure!(
                    factor.is_finite() && factor > 1.0,
                    "--factor {factor}: the load would not grow; it is more than 1"
                );
            }
        }
        let mut load = from;
        let mut steps = 1;
        while load < to {
            load = stride.after(load);
            steps += 1;
            ensure!(
                steps <= STEPS_MAX,
                "from {from} to {to} that is more than {STEPS_MAX} steps: take larger ones"
            );
        }
        Ok(())
    }
}

/// The way up.
#[derive(Clone, Copy, Debug)]
pub struct Ladder {
    climb: Climb,
    held: Option<u64>,
    broke: Option<u64>,
    refinements: u32,
}

impl Ladder {
    /// At its foot.
    pub fn new(climb: Climb) -> Self {
        Self { climb, held: None, broke: None, refinements: 0 }
    }

    /// The load to try next; `None` if there is nothing more to find out.
    pub fn next(&self) -> Option<u64> {
        match (self.held, self.broke) {
            (None, None) => Some(self.climb.from),
            (Some(held), None) if held >= self.climb.to => None,
            (Some(held), None) => Some(self.climb.stride.after(held).min(self.climb.to)),
            // Below the first load there is nothing to look for.
            (None, Some(_)) => None,
            (Some(held), Some(broke)) => {
                let is_over = self.refinements >= self.climb.refine || broke - held < 2;
                (!is_over).then(|| held + (broke - held) / 2)
            }
        }
    }

    /// A load, which was the next, held or did not.
    pub fn tried(&mut self, load: u64, holds: bool) {
        self.refinements += u32::from(self.broke.is_some());
        if holds { self.held = Some(load) } else { self.broke = Some(load) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CLIMB: Climb = Climb { from: 100, to: 1000, stride: Stride::By(300), refine: 0 };

    /// Everything that is tried on a server that holds up to `limit`.
    fn tried(climb: Climb, limit: u64) -> Vec<u64> {
        let mut ladder = Ladder::new(climb);
        std::iter::from_fn(|| {
            let load = ladder.next()?;
            ladder.tried(load, load <= limit);
            Some(load)
        })
        .collect()
    }

    #[test]
    fn it_goes_up_until_something_breaks_or_it_ends() {
        assert_eq!(tried(CLIMB, 10_000), [100, 400, 700, 1000]);
        assert_eq!(tried(Climb { to: 900, ..CLIMB }, 10_000), [100, 400, 700, 900]);
        assert_eq!(tried(CLIMB, 500), [100, 400, 700]);
        assert_eq!(tried(CLIMB, 5), [100]);
        assert_eq!(tried(Climb { stride: Stride::Times(2.0), ..CLIMB }, 10_000), [100, 200, 400, 800, 1000]);
        assert_eq!(tried(Climb { from: 1, to: 3, stride: Stride::Times(1.01), refine: 0 }, 9), [1, 2, 3]);
    }

    #[test]
    fn then_it_looks_between() {
        assert_eq!(tried(Climb { refine: 3, ..CLIMB }, 500), [100, 400, 700, 550, 475, 512]);
        assert_eq!(
            tried(Climb { from: 1, to: 9, stride: Stride::By(4), refine: 9 }, 6),
            [1, 5, 9, 7, 6],
            "neighbours have nothing between them"
        );
        assert_eq!(tried(Climb { refine: 3, ..CLIMB }, 5), [100], "below the first step nobody looks");
    }

    #[test]
    fn a_climb_that_is_none_says_why() {
        assert!(CLIMB.check().is_ok());
        for (climb, word) in [
            (Climb { from: 0, ..CLIMB }, "--from 0"),
            (Climb { from: 2000, ..CLIMB }, "--to 1000"),
            (Climb { stride: Stride::By(0), ..CLIMB }, "--step"),
            (Climb { stride: Stride::Times(1.0), ..CLIMB }, "--factor"),
            (Climb { stride: Stride::Times(f64::NAN), ..CLIMB }, "--factor"),
            (Climb { stride: Stride::By(1), ..CLIMB }, "500 steps"),
        ] {
            let error = climb.check().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    proptest! {
        /// What held is always below what did not, however often it is refined, and it ends.
        #[test]
        fn the_knee_is_closed_in_on(from in 1_u64..500, step in 7_u64..400, limit in 0_u64..5000, refine in 0_u32..12) {
            let climb = Climb { from, to: 3000, stride: Stride::By(step), refine };
            let all = tried(climb, limit);
            prop_assert!(all.len() as u64 <= STEPS_MAX + u64::from(refine));
            let held = all.iter().filter(|load| **load <= limit).max();
            let broke = all.iter().filter(|load| **load > limit).min();
            if let (Some(held), Some(broke), true) = (held, broke, refine >= 10) {
                prop_assert_eq!((*held, *broke), (limit, limit + 1));
            }
        }
    }
}
