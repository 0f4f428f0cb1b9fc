//! From a recipient to its deliveries (spec/smtpd.md 5.1 to 5.3).
//!
//! Promises: ends, whatever aliases and forward files say, within the limits on depth and nodes;
//! gives either all deliveries of a recipient, or one reply that refuses it.
//! Absent on purpose: the system's users and their files. A [`Directory`] is asked for them, and
//! only if the recipient is delivered here: [`immediate`] answers relays and refusals without one,
//! so a caller can run [`expand`] on a thread that may block.
//! Fails: with the reply for the client.

use super::item::{self, Item};
use super::rules::{self, Client, Subject};
use super::trail::{Step, Trail};
use crate::addr::Address;
use crate::config::table::{Table, base};
use crate::config::{
    Action, ActionKind, Config, Local, NextHop, RelayAction, Rewriting, TableId, Verdict,
};
use crate::envelope::{Delivery, Mda, Method, Relay};
use crate::reply::{Reply, Status};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// A recipient named by a client.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who names it.
    pub client: Client,
    /// Return path of the mail.
    pub sender: Address,
    /// The recipient.
    pub rcpt: Address,
    /// Chooses among smart hosts: count up by one per recipient.
    pub turn: u64,
}

/// One delivery of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expanded {
    /// The recipient after expansion.
    pub dest: Address,
    /// Name of the action.
    pub action: Box<str>,
    /// Who delivers, with the action's parameters.
    pub delivery: Delivery,
    /// Life of the envelope.
    pub ttl: Duration,
    /// It came out of an alias or forward file.
    pub internal: bool,
}

/// A user who can receive mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: Box<str>,
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// Home directory.
    pub home: PathBuf,
}

/// A question that cannot be answered now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Temporary;

/// What a user's `.forward` file says (spec/smtpd.md 5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forward {
    /// There is none, or no home directory: deliver to the user.
    Absent,
    /// Its text, at most `Limits::forward_size` octets.
    Text(Box<str>),
    /// It is larger.
    TooLarge,
    /// It could not be read now, or the home directory is sticky (maintenance).
    Temporary,
    /// It is not safe to read: a link, not the user's, writable by others.
    Unsafe,
}

/// Who answers for users and their files.
pub trait Directory {
    /// The system user with this name, if there is one.
    fn user(&mut self, name: &str) -> Result<Option<User>, Temporary>;

    /// Name of the daemon's own unprivileged user: files and commands that an alias names are
    /// delivered as this user.
    fn unprivileged(&self) -> &str;

    /// The user's `.forward` file, after the checks of spec/smtpd.md 5.3.
    fn forward(&mut self, user: &User) -> Forward;
}

/// Answers a recipient that needs no user: one that is relayed, or refused by the rules. `None`
/// if it is delivered here; then [`expand`] answers. The way there is added to `trail`.
pub fn immediate(
    config: &Config,
    question: &Question,
    trail: Option<&Trail>,
) -> Option<Result<Vec<Expanded>, Reply>> {
    let rcpt = &question.rcpt;
    match route(config, question, rcpt, false, trail) {
        Err(refused) => Some(Err(refused)),
        Ok(action) => match &action.kind {
            ActionKind::Local(_) => None,
            ActionKind::Relay(relay) => {
                let expanded = relayed(config, question, action, relay, rcpt, false);
                Some(expanded.map(|one| vec![one]))
            }
        },
    }
}

/// Turns a recipient into its deliveries, at least one, or into the reply that refuses it. The way
/// there is added to `trail`.
pub fn expand(
    config: &Config,
    directory: &mut dyn Directory,
    question: &Question,
    trail: Option<&Trail>,
) -> Result<Vec<Expanded>, Reply> {
    if let Some(answer) = immediate(config, question, trail) {
        return answer;
    }
    // The first visit asks the rules again.
    if let Some(trail) = trail {
        trail.clear();
    }
    let mut expansion = Expansion {
        config,
        directory,
        question,
        nodes: Vec::new(),
        seen: BTreeSet::new(),
        done: Vec::new(),
        trail,
    };
    expansion.add(None, None, Item::Address(question.rcpt.clone()))?;
    let mut next = 0;
    while next < expansion.nodes.len() {
        expansion.visit(next)?;
        next += 1;
    }
    if expansion.done.is_empty() {
        return Err(problem(524, &question.rcpt));
    }
    Ok(expansion.done)
}

/// The action the rules give a recipient.
fn route<'c>(
    config: &'c Config,
    question: &Question,
    dest: &Address,
    internal: bool,
    trail: Option<&Trail>,
) -> Result<&'c Action, Reply> {
    let subject = Subject {
        client: &question.client,
        sender: &question.sender,
        dest,
        internal,
        trail,
    };
    match rules::find(config, subject).map(|rule| rule.verdict) {
        Some(Verdict::Action(id)) => Ok(config.action(id)),
        Some(Verdict::Reject) | None => Err(invalid(&question.rcpt, Status::permanent(7, 1))),
    }
}

/// The parameters of a relay action as envelopes carry them; `turn` chooses among smart hosts.
/// `None` if the table of smart hosts is empty, or its host does not go with the action.
pub(crate) fn relay_of(config: &Config, relay: &RelayAction, turn: u64) -> Option<Relay> {
    let host = match &relay.host {
        NextHop::Mx => None,
        NextHop::Host(host) => Some(host.clone()),
        NextHop::Table(table) => {
            let host = config.table(*table).relay(turn)?;
            if !relay.security.suits(host) {
                // The table was changed behind the back of its action.
                return None;
            }
            Some(host.clone())
        }
    };
    Some(Relay {
        host,
        helo: relay.helo.clone(),
        src: relay.src.clone(),
        helo_src: relay.helo_src.clone(),
        backup: relay.backup.clone(),
        security: relay.security.clone(),
    })
}

fn relayed(
    config: &Config,
    question: &Question,
    action: &Action,
    relay: &RelayAction,
    dest: &Address,
    internal: bool,
) -> Result<Expanded, Reply> {
    let relay = relay_of(config, relay, question.turn);
    let relay = relay.ok_or_else(|| temporary(&question.rcpt))?;
    Ok(Expanded {
        dest: dest.clone(),
        action: action.name.clone(),
        delivery: Delivery::Mta(relay),
        ttl: action.ttl.unwrap_or(config.limits.queue_ttl),
        internal,
    })
}

/// 550: nobody here. The wording is the same for whatever reason, the status is not.
fn invalid(rcpt: &Address, status: Status) -> Reply {
    Reply::new(
        550,
        Some(status),
        format!("Invalid recipient: <{}>", rcpt.as_str()),
    )
}

/// 424 or 524: aliases or a forward file lead nowhere.
fn problem(code: u16, rcpt: &Address) -> Reply {
    let status = if code / 100 == 4 {
        Status::transient(2, 4)
    } else {
        Status::permanent(2, 4)
    };
    let text = format!("Mailing list expansion problem: <{}>", rcpt.as_str());
    Reply::new(code, Some(status), text)
}

/// 451: ask again later.
fn temporary(rcpt: &Address) -> Reply {
    let text = format!("Temporary failure: <{}>", rcpt.as_str());
    Reply::new(451, Some(Status::transient(3, 0)), text)
}

struct Expansion<'c, 'd> {
    config: &'c Config,
    directory: &'d mut dyn Directory,
    question: &'c Question,
    /// In the order they are visited.
    nodes: Vec<Node<'c>>,
    /// What breaks loops: a node like an earlier one is dropped.
    seen: BTreeSet<Likeness>,
    done: Vec<Expanded>,
    trail: Option<&'d Trail>,
}

/// A step on the way from a recipient to its deliveries.
struct Node<'c> {
    item: Item,
    depth: usize,
    parent: Option<usize>,
    /// The address it was reached by.
    address: Address,
    /// The local action of that address, known once it has been routed.
    local: Option<(&'c Action, &'c Local)>,
    /// A user among the destinations of the same user: the copy that is kept.
    same_user: bool,
    /// The user, once found, and the sub-address.
    user: Option<(User, Box<str>)>,
    /// The destinations below it came from the user's forward file.
    forwarded: bool,
}

/// What two nodes have in common if one of them is enough.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Likeness {
    kind: u8,
    payload: Box<str>,
    same_user: bool,
    address: Box<str>,
    user: Option<Box<str>>,
}

impl<'c> Expansion<'c, '_> {
    /// Adds a node below another, unless there is one like it.
    fn add(
        &mut self,
        parent: Option<usize>,
        local: Option<(&'c Action, &'c Local)>,
        item: Item,
    ) -> Result<(), Reply> {
        if let Item::Error(reply) = &item {
            let text = format!("{}: <{}>", reply.text(), self.question.rcpt.as_str());
            return Err(Reply::new(reply.code(), reply.status(), text));
        }
        if self.nodes.len() >= self.config.limits.alias_nodes {
            return Err(problem(524, &self.question.rcpt));
        }
        let above = parent.and_then(|at| self.nodes.get(at));
        let same_user = match (&item, above.map(|node| &node.item)) {
            (Item::Username(name), Some(Item::Username(parent))) => name == parent,
            _ => false,
        };
        let address = match (&item, above) {
            (Item::Address(address), _) => address.clone(),
            (_, Some(node)) => node.address.clone(),
            (_, None) => self.question.rcpt.clone(),
        };
        let depth = above.map_or(0, |node| node.depth + 1);
        let user = above
            .and_then(|node| self.real_user(node))
            .map(|(user, _)| user.name.clone());
        if !self.seen.insert(likeness(&item, same_user, &address, user)) {
            return Ok(());
        }
        self.nodes.push(Node {
            item,
            depth,
            parent,
            address,
            local,
            same_user,
            user: None,
            forwarded: false,
        });
        Ok(())
    }

    fn visit(&mut self, at: usize) -> Result<(), Reply> {
        let rcpt = &self.question.rcpt;
        let Some(node) = self.nodes.get(at) else {
            return Ok(());
        };
        if let Some(trail) = self.trail {
            trail.add(Step::Visited {
                depth: node.depth,
                item: node.item.to_string().into(),
            });
        }
        if node.depth >= self.config.limits.expansion_depth {
            return Err(problem(524, rcpt));
        }
        match (node.item.clone(), node.local) {
            (Item::Address(dest), _) => self.visit_address(at, &dest),
            (Item::Username(name), Some((action, local))) => {
                self.visit_user(at, action, local, &name)
            }
            (Item::File(path), Some((action, local))) => {
                self.visit_program(at, action, local, Method::File(PathBuf::from(&*path)))
            }
            (Item::Command(command), Some((action, local))) => {
                self.visit_program(at, action, local, Method::Command(command))
            }
            // Refused when the table was loaded; a forward file's are dropped.
            (Item::Include(_) | Item::Error(_), _) | (_, None) => Err(problem(424, rcpt)),
        }
    }

    fn visit_address(&mut self, at: usize, dest: &Address) -> Result<(), Reply> {
        let internal = at > 0;
        let config = self.config;
        let action = route(config, self.question, dest, internal, self.trail)?;
        let local = match &action.kind {
            ActionKind::Local(local) => local,
            ActionKind::Relay(relay) => {
                let one = relayed(config, self.question, action, relay, dest, internal)?;
                self.done.push(one);
                return Ok(());
            }
        };
        let here = Some((action, local));
        match local.rewriting {
            Rewriting::Virtual(table) => {
                let keys = virtual_keys(dest, config.subaddress_delimiter);
                let Some(value) = self.first_value(table, &keys) else {
                    return Err(problem(524, &self.question.rcpt));
                };
                self.add_list(at, here, value)
            }
            Rewriting::Alias(_) | Rewriting::None => {
                let user = dest.local().to_lowercase();
                self.add(Some(at), here, Item::Username(user.into()))
            }
        }
    }

    fn visit_user(
        &mut self,
        at: usize,
        action: &'c Action,
        local: &'c Local,
        name: &str,
    ) -> Result<(), Reply> {
        let config = self.config;
        let rcpt = &self.question.rcpt;
        let same_user = self.nodes.get(at).is_some_and(|node| node.same_user);
        let delimiter = config.subaddress_delimiter;
        let plain = base(name, delimiter);
        let aliases = match local.rewriting {
            Rewriting::Alias(table) | Rewriting::Virtual(table) if !same_user => Some(table),
            _ => None,
        };
        if let Some(table) = aliases {
            let keys = [name.to_owned(), plain.to_owned()];
            if let Some(value) = self.first_value(table, &keys) {
                return self.add_list(at, Some((action, local)), value);
            }
        }
        let user = match local.userbase {
            Some(table) => {
                let user = userbase_user(config.table(table), plain);
                let found = user
                    .as_ref()
                    .map(|user| format!("{}:{}", user.uid, user.gid));
                self.asked("userinfo", table, plain, found.as_deref());
                Ok(user)
            }
            None => self.directory.user(plain),
        };
        let user = user.map_err(|Temporary| temporary(rcpt))?;
        let user = user.ok_or_else(|| invalid(rcpt, Status::permanent(1, 1)))?;
        let tag = name.get(plain.len()..).unwrap_or_default();
        let tag = tag.strip_prefix(delimiter).unwrap_or_default();
        let parent_forwarded = self.update(at, user.clone(), tag);
        let keeps_copy = same_user && parent_forwarded;
        let other = local
            .user
            .as_ref()
            .is_some_and(|other| **other != *user.name);
        if keeps_copy || other || !self.forward(at, action, local, &user)? {
            self.deliver(at, action, local, local.method.clone());
        }
        Ok(())
    }

    /// Notes the user of a node, whose name loses its sub-address. Says whether the node above
    /// was read from a forward file.
    fn update(&mut self, at: usize, user: User, tag: &str) -> bool {
        let Some(node) = self.nodes.get_mut(at) else {
            return false;
        };
        node.item = Item::Username(user.name.to_lowercase().into());
        node.user = Some((user, tag.into()));
        let parent = node.parent;
        parent
            .and_then(|parent| self.nodes.get(parent))
            .is_some_and(|node| node.forwarded)
    }

    /// Follows the user's forward file; false if there is nothing in it.
    fn forward(
        &mut self,
        at: usize,
        action: &'c Action,
        local: &'c Local,
        user: &User,
    ) -> Result<bool, Reply> {
        let rcpt = &self.question.rcpt;
        let text = match self.directory.forward(user) {
            Forward::Absent => return Ok(false),
            Forward::Text(text) => text,
            Forward::TooLarge => return Err(problem(424, rcpt)),
            Forward::Temporary => return Err(temporary(rcpt)),
            Forward::Unsafe => return Err(problem(524, rcpt)),
        };
        let mut items = item::file(&text).ok_or_else(|| problem(424, rcpt))?;
        items.retain(|item| !matches!(item, Item::Include(_)));
        if items.is_empty() {
            return Ok(false);
        }
        if self.nodes.len() + items.len() > self.config.limits.expansion_nodes {
            return Err(problem(424, rcpt));
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.forwarded = true;
        }
        for item in items {
            self.add(Some(at), Some((action, local)), item)?;
        }
        Ok(true)
    }

    fn visit_program(
        &mut self,
        at: usize,
        action: &Action,
        local: &Local,
        method: Method,
    ) -> Result<(), Reply> {
        let node = self.nodes.get(at);
        let user = node.and_then(|node| self.real_user(node));
        if user.is_some_and(|(user, _)| user.uid == 0) {
            return Err(problem(424, &self.question.rcpt));
        }
        self.deliver(at, action, local, method);
        Ok(())
    }

    fn deliver(&mut self, at: usize, action: &Action, local: &Local, method: Method) {
        let Some(node) = self.nodes.get(at) else {
            return;
        };
        let (user, subaddress) = match self.real_user(node) {
            Some((user, tag)) => (user.name.clone(), tag.clone()),
            None => (self.directory.unprivileged().into(), Box::default()),
        };
        // The daemon's user is the system's, whoever the other users are.
        let userbase = local.userbase.filter(|_| self.real_user(node).is_some());
        let userbase = userbase.map(|table| self.config.table_name(table));
        let mda = Mda {
            method,
            user,
            userbase: userbase.unwrap_or_default().into(),
            delivery_user: local.user.clone().unwrap_or_default(),
            subaddress,
        };
        self.done.push(Expanded {
            dest: node.address.clone(),
            action: action.name.clone(),
            delivery: Delivery::Mda(mda),
            ttl: action.ttl.unwrap_or(self.config.limits.queue_ttl),
            internal: node.address != self.question.rcpt,
        });
    }

    /// The value of the first of these keys that an alias table has.
    fn first_value(&self, id: TableId, keys: &[String]) -> Option<&'c str> {
        let table = self.config.table(id);
        keys.iter().find_map(|key| {
            let value = table.value(key);
            self.asked("alias", id, key, value);
            value
        })
    }

    /// Notes what a mapping was asked.
    fn asked(&self, service: &'static str, table: TableId, key: &str, value: Option<&str>) {
        if let Some(trail) = self.trail {
            trail.add(Step::Asked {
                service,
                table: self.config.table_name(table).into(),
                key: key.into(),
                value: value.map(Box::from),
            });
        }
    }

    /// The nearest user from a node upwards, not beyond its address.
    fn real_user<'n>(&'n self, node: &'n Node<'c>) -> Option<&'n (User, Box<str>)> {
        let mut node = node;
        loop {
            if node.user.is_some() {
                return node.user.as_ref();
            }
            if matches!(node.item, Item::Address(_)) {
                return None;
            }
            node = self.nodes.get(node.parent?)?;
        }
    }

    fn add_list(
        &mut self,
        at: usize,
        local: Option<(&'c Action, &'c Local)>,
        value: &str,
    ) -> Result<(), Reply> {
        let items = item::list(value).filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| problem(424, &self.question.rcpt))?;
        for item in items {
            self.add(Some(at), local, item)?;
        }
        Ok(())
    }
}

fn likeness(item: &Item, same_user: bool, address: &Address, user: Option<Box<str>>) -> Likeness {
    let (kind, payload) = match item {
        Item::Address(address) => (0, address.as_str().to_lowercase().into()),
        Item::Username(name) => (1, name.clone()),
        Item::File(path) => (2, path.clone()),
        Item::Command(command) => (3, command.clone()),
        Item::Include(path) => (4, path.clone()),
        Item::Error(reply) => (5, reply.to_string().into()),
    };
    Likeness {
        kind,
        payload,
        same_user,
        address: address.as_str().to_lowercase().into(),
        user: user.filter(|_| matches!(item, Item::File(_) | Item::Command(_))),
    }
}

/// The keys of a virtual table for an address, the most exact one first (spec/smtpd.md 5.2).
fn virtual_keys(address: &Address, delimiter: char) -> [String; 6] {
    let local = address.local();
    let domain = address.domain();
    let plain = base(local, delimiter);
    [
        format!("{local}@{domain}"),
        format!("{plain}@{domain}"),
        local.to_owned(),
        plain.to_owned(),
        format!("@{domain}"),
        "@".to_owned(),
    ]
}

/// A user of a `userbase` table.
pub fn userbase_user(table: &Table, name: &str) -> Option<User> {
    let info = table.userinfo(name)?;
    Some(User {
        name: name.into(),
        uid: info.uid,
        gid: info.gid,
        home: PathBuf::from(&*info.home),
    })
}
