//! A share of many, spread evenly.

/// Spreads a rate evenly: at 0.25 it takes every fourth.
#[derive(Default)]
pub(super) struct EvenShare(f64);

impl EvenShare {
    pub(super) fn take(&mut self, rate: f64) -> bool {
        self.0 += rate.clamp(0.0, 1.0);
        let due = self.0 >= 1.0;
        if due {
            self.0 -= 1.0;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::EvenShare;

    #[test]
    fn a_share_is_spread_evenly() {
        let mut share = EvenShare::default();
        let taken: Vec<bool> = (0..8).map(|_| share.take(0.25)).collect();
        assert_eq!(taken, [false, false, false, true, false, false, false, true]);
        assert!(EvenShare::default().take(1.0));
        assert!(!EvenShare::default().take(0.0));
    }
}
