//! What it costs to send: admitted, refused, and handled.

use actix::{Actor, Context, Handler};
use criterion::{Criterion, criterion_group, criterion_main};
use lmx_actors::mailbox::{Gauge, Letter, Mail, Mailbox};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::{Duration, Instant};

struct Sink;

impl Actor for Sink {
    type Context = Context<Self>;
}

struct Work;

impl Letter for Work {
    const NAME: &'static str = "work";
}

/// Answered when everything before it has been handled.
struct Flush(mpsc::Sender<()>);

impl Letter for Flush {
    const NAME: &'static str = "flush";
}

impl Handler<Mail<Work>> for Sink {
    type Result = ();

    fn handle(&mut self, mail: Mail<Work>, _: &mut Context<Self>) {
        let (Work, _busy) = mail.open();
    }
}

impl Handler<Mail<Flush>> for Sink {
    type Result = ();

    fn handle(&mut self, mail: Mail<Flush>, _: &mut Context<Self>) {
        let (Flush(done), _busy) = mail.open();
        done.send(()).unwrap();
    }
}

fn flush(mailbox: &Mailbox<Sink>) {
    let (done, wait) = mpsc::channel();
    mailbox.tell(Flush(done));
    wait.recv().unwrap();
}

fn mailbox(c: &mut Criterion) {
    let _system = actix::System::new();
    let arbiter = actix_rt::Arbiter::new();
    let mailbox = Mailbox::bounded(Gauge::new("sink", NonZeroUsize::new(1 << 20).unwrap()));
    let inside = mailbox.clone();
    let (ready, up) = mpsc::channel();
    arbiter.spawn_fn(move || {
        inside.connect(Sink.start());
        ready.send(()).unwrap();
    });
    up.recv().unwrap();

    // The sender's side alone: batches that the mailbox holds, emptied outside of the measurement.
    c.bench_function("mailbox/admit", |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for batch in (0..rounds).step_by(1024) {
                let letters = (rounds - batch).min(1024);
                let begun = Instant::now();
                (0..letters).for_each(|_| drop(black_box(mailbox.try_tell(Work))));
                spent += begun.elapsed();
                flush(&mailbox);
            }
            spent
        });
    });
    // Sent and handled, both threads at work.
    c.bench_function("mailbox/throughput", |b| {
        b.iter_custom(|rounds| {
            let begun = Instant::now();
            (0..rounds).for_each(|_| mailbox.tell(Work));
            flush(&mailbox);
            begun.elapsed()
        });
    });
    c.bench_function("mailbox/refuse", |b| {
        let (block, blocked) = mpsc::channel::<()>();
        let (standing, stands) = mpsc::channel();
        arbiter.spawn_fn(move || {
            standing.send(()).unwrap();
            let _ = blocked.recv();
        });
        stands.recv().unwrap();
        mailbox.gauge().set_capacity(NonZeroUsize::MIN);
        mailbox.tell(Work);
        b.iter(|| black_box(mailbox.try_tell(Work).is_err()));
        drop(block);
        flush(&mailbox);
        mailbox.gauge().set_capacity(NonZeroUsize::new(1 << 20).unwrap());
    });
    arbiter.stop();
}

criterion_group!(benches, mailbox);
criterion_main!(benches);
