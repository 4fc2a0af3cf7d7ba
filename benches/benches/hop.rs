//! How long a letter is on its way, one way: on one arbiter, between two that are awake, and to one that sleeps.
//!
//! Medians of single letters, each timed from the send to the start of its handler; criterion would average them.

use actix::{Actor, Context, Handler, Message};
use actix_rt::Arbiter;
use lmx_actors::mailbox::{Gauge, Letter, Mail, Mailbox};
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Passes a letter back and forth, and notes how long each was on its way.
struct Player {
    other: Option<Mailbox<Player>>,
    other_bare: Option<actix::Addr<Player>>,
    /// How long to keep the letter, so that the other falls asleep.
    hold: Duration,
    samples: Vec<Duration>,
    done: Option<mpsc::Sender<Vec<Duration>>>,
}

impl Actor for Player {
    type Context = Context<Self>;
}

/// Told through a mailbox, with a ticket.
struct Ball {
    sent: Instant,
    left: usize,
}

impl Letter for Ball {
    const NAME: &'static str = "ball";
}

/// Sent through the framework alone.
#[derive(Message)]
#[rtype(result = "()")]
struct BareBall {
    sent: Instant,
    left: usize,
}

impl Player {
    fn note(&mut self, sent: Instant, left: usize) -> bool {
        self.samples.push(sent.elapsed());
        if left == 0 {
            if let Some(done) = self.done.take() {
                done.send(std::mem::take(&mut self.samples)).unwrap();
            }
            return false;
        }
        if !self.hold.is_zero() {
            std::thread::sleep(self.hold);
        }
        true
    }
}

impl Handler<Mail<Ball>> for Player {
    type Result = ();

    fn handle(&mut self, mail: Mail<Ball>, _: &mut Context<Self>) {
        let (Ball { sent, left }, _busy) = mail.open();
        if self.note(sent, left) {
            let other = self.other.as_ref().expect("players know each other");
            other.tell(Ball { sent: Instant::now(), left: left - 1 });
        }
    }
}

impl Handler<BareBall> for Player {
    type Result = ();

    fn handle(&mut self, BareBall { sent, left }: BareBall, _: &mut Context<Self>) {
        if self.note(sent, left) {
            let other = self.other_bare.as_ref().expect("players know each other");
            other.do_send(BareBall { sent: Instant::now(), left: left - 1 });
        }
    }
}

struct Introduce(Mailbox<Player>, actix::Addr<Player>);

impl Message for Introduce {
    type Result = ();
}

impl Handler<Introduce> for Player {
    type Result = ();

    fn handle(&mut self, Introduce(mailbox, bare): Introduce, _: &mut Context<Self>) {
        (self.other, self.other_bare) = (Some(mailbox), Some(bare));
    }
}

fn start(
    arbiter: &Arbiter,
    hold: Duration,
    done: Option<mpsc::Sender<Vec<Duration>>>,
) -> (Mailbox<Player>, actix::Addr<Player>) {
    let mailbox = Mailbox::bounded(Gauge::new("player", NonZeroUsize::new(16).unwrap()));
    let inside = mailbox.clone();
    let (ready, up) = mpsc::channel();
    arbiter.spawn_fn(move || {
        let address =
            Player { other: None, other_bare: None, hold, samples: Vec::with_capacity(1 << 16), done }.start();
        inside.connect(address.clone());
        ready.send(address).unwrap();
    });
    (mailbox, up.recv().unwrap())
}

/// Median and 99th percentile, in microseconds, of the letters that the first player received.
fn play(first: &Arbiter, second: &Arbiter, hold: Duration, rounds: usize, ticket: bool) -> (f64, f64) {
    let (done, samples) = mpsc::channel();
    let (a, bare_a) = start(first, hold, Some(done));
    let (b, bare_b) = start(second, hold, None);
    bare_a.do_send(Introduce(b.clone(), bare_b.clone()));
    bare_b.do_send(Introduce(a.clone(), bare_a.clone()));
    let left = 2 * rounds;
    if ticket {
        a.tell(Ball { sent: Instant::now(), left });
    } else {
        bare_a.do_send(BareBall { sent: Instant::now(), left });
    }
    let mut samples = samples.recv().unwrap();
    samples.drain(..samples.len() / 10); // the start is no hop
    samples.sort_unstable();
    let micros = |at: usize| samples[at].as_secs_f64() * 1e6;
    (micros(samples.len() / 2), micros(samples.len() * 99 / 100))
}

fn main() {
    let _system = actix::System::new();
    let (one, other) = (Arbiter::new(), Arbiter::new());
    println!("| hop, one way | framework alone, p50 / p99 us | with mailbox and ticket, p50 / p99 us |");
    println!("|---|---|---|");
    let cases = [
        ("on one arbiter", &one, Duration::ZERO, 20_000),
        ("between two arbiters, both awake", &other, Duration::ZERO, 20_000),
        ("to an arbiter asleep for 0.1 ms", &other, Duration::from_micros(100), 3_000),
        ("to an arbiter asleep for 1 ms", &other, Duration::from_millis(1), 1_000),
        ("to an arbiter asleep for 5 ms", &other, Duration::from_millis(5), 300),
    ];
    for (name, second, hold, rounds) in cases {
        let bare = play(&one, second, hold, rounds, false);
        let told = play(&one, second, hold, rounds, true);
        println!("| {name} | {:.2} / {:.1} | {:.2} / {:.1} |", bare.0, bare.1, told.0, told.1);
    }
}
