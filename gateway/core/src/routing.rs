//! Which of a model's deployments a request goes to, and where it waits.
//!
//! A model lists its deployments in order, each with the tiers and accounts that it takes: that is how priority
//! customers get a pool of their own and spill over when it is full. Neighbours with a weight share the load: each
//! request tries them in an order of its own, drawn in proportion to the weights, and a session always in the same.
//!
//! ```text
//! in order, the first that has a place now                        → there
//! none has: offered where the predicted wait W is smallest        → waits there, or is refused there too
//! refused: the next by W; refused by all                          → 503
//! waiting: every 250 ms the others are asked for a place now      → there, and the wait is over
//! ```
//!
//! # Guarantees
//!
//! - A request is refused only if every deployment that takes it refuses it.
//! - It waits in one queue at a time, and it never passes anyone who waits where it gets its place: a deployment
//!   with a queue has no place now.

use std::time::Duration;

/// How often a request that waits asks the other deployments for a place.
pub const REOFFER_EVERY: Duration = Duration::from_millis(250);

/// The deployments that may serve one request, each by its place in the request's order.
pub trait Deployments {
    /// A place on a replica.
    type Place;
    /// What an offer came to.
    type Answer;

    /// Whether any replica there is in service.
    fn has_healthy(&mut self, at: usize) -> bool;
    /// A place there now, or nothing.
    fn try_admit(&mut self, at: usize) -> Option<Self::Place>;
    /// How long the request would wait there.
    fn predicted_wait(&mut self, at: usize) -> Duration;
    /// Offers it there.
    fn offer(&mut self, at: usize) -> Self::Answer;
    /// Whether that was a refusal.
    fn is_refusal(answer: &Self::Answer) -> bool;
    /// A place as an answer.
    fn admitted(place: Self::Place) -> Self::Answer;
}

/// Offers a request to `count` deployments, at least one: what came of it, and at which. Of a refusal by all, that of the one
/// with the shortest wait.
pub fn offer<D: Deployments>(deployments: &mut D, count: usize) -> (D::Answer, usize) {
    if count <= 1 {
        return (deployments.offer(0), 0);
    }
    if let Some((place, at)) = place_now(deployments, 0..count) {
        return (D::admitted(place), at);
    }
    let mut by_wait: Vec<(Duration, usize)> =
        (0..count).map(|at| (deployments.predicted_wait(at), at)).collect();
    // Of equal waits the first in order.
    by_wait.sort_unstable();
    let mut refused = None;
    for (_, at) in by_wait {
        let answer = deployments.offer(at);
        if !D::is_refusal(&answer) {
            return (answer, at);
        }
        refused = refused.or(Some((answer, at)));
    }
    // There is at least one, so this is its refusal.
    refused.unwrap_or_else(|| (deployments.offer(0), 0))
}

/// The first place of those that are asked. One with nothing in service comes last: an ejected replica gets requests only
/// while there is no other.
pub fn place_now<D: Deployments>(
    deployments: &mut D,
    asked: impl IntoIterator<Item = usize>,
) -> Option<(D::Place, usize)> {
    let (up, down): (Vec<usize>, Vec<usize>) = asked.into_iter().partition(|at| deployments.has_healthy(*at));
    up.into_iter().chain(down).find_map(|at| deployments.try_admit(at).map(|place| (place, at)))
}

/// The order for one request: as listed, with each run of neighbours that have weights in an order of its own. `unit`: of a
/// deployment a number in (0, 1] that only the session and its name decide.
///
/// Weighted rendezvous hashing: each neighbour draws `−ln(u) / weight`, and the smallest comes first. So shares are as
/// the weights, a session stays, and when a neighbour comes or goes only its own share moves. O(n log n).
pub fn in_order<T>(listed: Vec<(Option<u32>, T)>, unit: impl Fn(&T) -> f64) -> Vec<T> {
    let draw = |weight: Option<u32>, one: &T| -unit(one).ln() / f64::from(weight.unwrap_or(1).max(1));
    let mut order = Vec::with_capacity(listed.len());
    let mut run: Vec<(f64, T)> = Vec::new();
    let mut has_weight = false;
    for (weight, one) in listed {
        if !(has_weight && weight.is_some()) {
            take_in_order(&mut run, &mut order);
        }
        has_weight = weight.is_some();
        run.push((draw(weight, &one), one));
    }
    take_in_order(&mut run, &mut order);
    order
}

fn take_in_order<T>(run: &mut Vec<(f64, T)>, order: &mut Vec<T>) {
    run.sort_by(|a, b| a.0.total_cmp(&b.0));
    order.extend(run.drain(..).map(|(_, one)| one));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A deployment as a table says it is.
    #[derive(Debug, Clone, Copy)]
    struct One {
        healthy: bool,
        place: bool,
        wait_s: u64,
        refuses: bool,
    }

    const OPEN: One = One { healthy: true, place: true, wait_s: 0, refuses: false };
    const FULL: One = One { place: false, wait_s: 5, ..OPEN };

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Came {
        Place,
        Waits,
        Refused,
    }

    struct Table(Vec<One>, Vec<String>);

    impl Table {
        fn one(&self, at: usize) -> One {
            self.0[at]
        }
    }

    impl Deployments for Table {
        type Place = ();
        type Answer = Came;

        fn has_healthy(&mut self, at: usize) -> bool {
            self.one(at).healthy
        }

        fn try_admit(&mut self, at: usize) -> Option<()> {
            self.1.push(format!("place {at}"));
            self.one(at).place.then_some(())
        }

        fn predicted_wait(&mut self, at: usize) -> Duration {
            Duration::from_secs(self.one(at).wait_s)
        }

        fn offer(&mut self, at: usize) -> Came {
            self.1.push(format!("offer {at}"));
            match self.one(at) {
                One { refuses: true, .. } => Came::Refused,
                One { place: true, .. } => Came::Place,
                _ => Came::Waits,
            }
        }

        fn is_refusal(answer: &Came) -> bool {
            *answer == Came::Refused
        }

        fn admitted((): ()) -> Came {
            Came::Place
        }
    }

    #[test]
    fn where_a_request_goes_and_where_it_waits() {
        let down = One { healthy: false, ..OPEN };
        let refuses = One { refuses: true, ..FULL };
        let shorter = One { wait_s: 2, ..FULL };
        for (what, deployments, expected, asked) in [
            ("a single one is offered it", vec![FULL], (Came::Waits, 0), "offer 0"),
            ("the first with a place", vec![OPEN, OPEN], (Came::Place, 0), "place 0"),
            ("the next when that is full", vec![FULL, OPEN], (Came::Place, 1), "place 0, place 1"),
            ("one with nothing in service comes last", vec![down, OPEN], (Came::Place, 1), "place 1"),
            ("but it comes", vec![down, FULL], (Came::Place, 0), "place 1, place 0"),
            (
                "it waits where the wait is shortest",
                vec![FULL, shorter],
                (Came::Waits, 1),
                "place 0, place 1, offer 1",
            ),
            ("of equal waits at the first", vec![FULL, FULL], (Came::Waits, 0), "place 0, place 1, offer 0"),
            (
                "refused at the shortest it is offered to the next",
                vec![FULL, One { wait_s: 1, ..refuses }],
                (Came::Waits, 0),
                "place 0, place 1, offer 1, offer 0",
            ),
            (
                "refused by all it hears the one with the shortest wait",
                vec![refuses, One { wait_s: 1, ..refuses }],
                (Came::Refused, 1),
                "place 0, place 1, offer 1, offer 0",
            ),
        ] {
            let count = deployments.len();
            let mut table = Table(deployments, Vec::new());
            assert_eq!(offer(&mut table, count), expected, "{what}");
            assert_eq!(table.1.join(", "), asked, "{what}");
        }
    }

    #[test]
    fn who_waits_asks_the_others_only() {
        let mut table = Table(vec![OPEN, FULL, OPEN], Vec::new());
        assert_eq!(place_now(&mut table, [1, 2]), Some(((), 2)));
        assert_eq!(table.1, ["place 1", "place 2"]);
        assert_eq!(place_now(&mut table, [1]), None);
    }

    #[test]
    fn shares_are_as_the_weights_and_lists_stay_lists() {
        let listed = || vec![(None, 'a'), (Some(3), 'b'), (Some(1), 'c'), (None, 'd')];
        let mut firsts = 0;
        for n in 1..=4_000_u64 {
            // Two numbers that have nothing to do with each other.
            let unit = |one: &char| {
                let mixed = (n * u64::from(u32::from(*one))).wrapping_mul(0x9E37_79B9_7F4A_7C15);
                let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
                ((mixed >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
            };
            let order = in_order(listed(), unit);
            assert_eq!((order[0], order[3]), ('a', 'd'), "what has no weight stays where it is");
            firsts += u32::from(order[1] == 'b');
        }
        assert!((2_900..3_100).contains(&firsts), "{firsts} of 4,000; three quarters are asked");
    }

    fn one() -> impl Strategy<Value = One> {
        let flags = (any::<bool>(), any::<bool>(), 0_u64..4, any::<bool>());
        flags.prop_map(|(healthy, place, wait_s, refuses)| One {
            healthy,
            place: place && !refuses,
            wait_s,
            refuses,
        })
    }

    proptest! {
        #[test]
        fn refused_only_by_all_and_never_waiting_where_there_is_a_place(deployments in prop::collection::vec(one(), 1..6)) {
            let count = deployments.len();
            let (came, at) = offer(&mut Table(deployments.clone(), Vec::new()), count);
            match came {
                Came::Refused => prop_assert!(deployments.iter().all(|one| one.refuses)),
                Came::Place => prop_assert!(deployments[at].place),
                Came::Waits => {
                    prop_assert!(!deployments.iter().any(|one| one.place));
                    prop_assert!(deployments.iter().all(|one| one.refuses || one.wait_s >= deployments[at].wait_s));
                }
            }
        }

        #[test]
        fn an_order_has_each_once(weights in prop::collection::vec(prop::option::of(0_u32..5), 0..8)) {
            let listed: Vec<_> = weights.iter().copied().zip(0_usize..).collect();
            let mut order = in_order(listed, |n| 1.0 / (*n as f64 + 1.5));
            order.sort_unstable();
            prop_assert_eq!(order, (0..weights.len()).collect::<Vec<_>>());
        }
    }
}
