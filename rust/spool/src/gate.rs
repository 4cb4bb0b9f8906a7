//! Holds back the end of a content until the record of its sending is written.

use std::sync::Arc;

use parking_lot::Mutex;
use penstock_core::flow::{Gate, GateState, WakeHandle};

struct Inner {
    state: GateState,
    waker: Option<WakeHandle>,
}

/// The spool's end of a gate.
#[derive(Clone)]
pub(crate) struct GateKey(Arc<Mutex<Inner>>);

impl GateKey {
    /// A closed gate, and what opens it.
    pub(crate) fn new() -> (Self, Box<dyn Gate>) {
        let inner = Arc::new(Mutex::new(Inner { state: GateState::Closed, waker: None }));
        (Self(Arc::clone(&inner)), Box::new(RecordGate(inner)))
    }

    pub(crate) fn open(&self) {
        self.set(GateState::Open);
    }

    pub(crate) fn fail(&self) {
        self.set(GateState::Failed);
    }

    fn set(&self, state: GateState) {
        let waker = {
            let mut inner = self.0.lock();
            inner.state = state;
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct RecordGate(Arc<Mutex<Inner>>);

impl Gate for RecordGate {
    fn state(&mut self, waker: &WakeHandle) -> GateState {
        let mut inner = self.0.lock();
        if inner.state == GateState::Closed {
            inner.waker = Some(waker.clone());
        }
        inner.state
    }
}
