//! [`Asker`]: the authorizer as expressions of one request see it, which remembers what it has decided.
// PERFORMANCE: per-request path

use crate::cluster::Permissions;
use fairlead_api::UserInfo;
use fairlead_cel::{Authority, Question, Ruling};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Asks in the name of one request.
pub struct Asker {
    user: Arc<UserInfo>,
    permissions: Arc<dyn Permissions>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    known: HashMap<Question, Ruling>,
    /// What is being decided.
    open: Option<(Question, BoxFuture<'static, Ruling>)>,
}

impl Asker {
    pub fn new(user: Arc<UserInfo>, permissions: Arc<dyn Permissions>) -> Asker {
        Asker {
            user,
            permissions,
            state: Mutex::default(),
        }
    }

    /// Waits for the decision that an evaluation could not wait for.
    pub async fn wait(&self) {
        let open = self.state().open.take();
        if let Some((question, decision)) = open {
            let ruling = decision.await;
            self.state().known.insert(question, ruling);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whom a question is about.
    fn user(&self, question: &Question) -> Arc<UserInfo> {
        let Some((namespace, name)) = &question.service_account else {
            return self.user.clone();
        };
        let of_namespace = format!("system:serviceaccounts:{namespace}");
        let name = format!("system:serviceaccount:{namespace}:{name}");
        Arc::new(UserInfo::new(&name, &["system:serviceaccounts", &of_namespace]))
    }
}

impl Authority for Asker {
    fn rule(&self, question: &Question) -> Option<Ruling> {
        let mut state = self.state();
        if let Some(ruling) = state.known.get(question) {
            return Some(ruling.clone());
        }
        let mut decision = self.permissions.decide(self.user(question), question);
        // Most authorizers know at once.
        match (&mut decision).now_or_never() {
            Some(ruling) => {
                state.known.insert(question.clone(), ruling.clone());
                Some(ruling)
            }
            None => {
                state.open = Some((question.clone(), decision));
                None
            }
        }
    }
}
