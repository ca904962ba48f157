//! How machines join the room: by ticket or by knocking, and how members answer.

use std::time::Duration;

use rand::RngExt;

use crate::admission::codec::{AdmissionAnswer, AdmissionRequest, Admitted, commitment, ticket_request};
use crate::input::{AdmissionCall, AdmissionId, Command, Input, Verdict};
use crate::log::entry::Incarnation;
use crate::output::{CommandError, Reply};
use crate::sim::room::machine::disk::HeldData;
use crate::sim::room::machine::{Host, MachineState};
use crate::sim::room::world::RoomWorld;
use chat_proto::time::Timestamp;

impl RoomWorld {
    /// The founder invites the others; most of them use the ticket.
    pub(in crate::sim::room) fn gather(&mut self) {
        let uses = u32::try_from(self.machines.len()).expect("a run has few machines");
        let expires = Timestamp::from_ms(self.at(Host(0)).clock.at(self.now()).wall.as_ms() + 60_000);
        self.command(Host(0), Command::Invite { expires, uses });
        self.run_until(self.now() + Duration::from_secs(1));
        let ticket = self.machines.iter().find_map(|machine| machine.ticket.clone());
        for host in self.hosts().skip(1) {
            self.machine(host).ticket = None;
            if self.chance(0.85) || self.hostile.has(host) {
                self.machine(host).ticket.clone_from(&ticket);
                let delay = self.between_ms(0, 4_000);
                self.schedule(delay, move |world| world.ask(host));
            }
        }
    }

    /// A machine outside the room asks a member for admission.
    pub(in crate::sim::room) fn ask(&mut self, asker: Host) {
        let machine = self.at(asker);
        let outside = machine.state == MachineState::Outside
            || (machine.state == MachineState::Off
                && machine.disk.held.is_some()
                && !machine.roster.is_member(&machine.id));
        if !outside {
            return;
        }
        let (peer, name) = (machine.id, machine.name.clone());
        let ticket = machine.ticket.clone();
        let doors: Vec<Host> = match &ticket {
            Some(ticket) => ticket.peers.iter().filter_map(|peer| self.host_of(&peer.peer)).collect(),
            None => self.hosts().filter(|host| self.at(*host).node.is_some()).collect(),
        };
        let Some(door) = self.pick(&doors).filter(|door| *door != asker) else { return };
        let request = match ticket {
            Some(ticket) => ticket_request(&ticket, &peer, &name),
            None => AdmissionRequest::Knock { name, commitment: commitment(&[7; 32]) },
        };
        let id = AdmissionId(self.rng.random());
        let reached = self.at(door).node.is_some() && !self.net.is_blocked(asker, door);
        if !reached {
            return;
        }
        self.machine(asker).state = MachineState::Asking(id, door);
        let delay = self.between_ms(2, 80);
        self.schedule_for(door, delay, move |world| world.request(door, id, asker, request));
        let patience = self.between_ms(3_000, 20_000);
        self.schedule(patience, move |world| world.give_up(id, asker));
    }

    pub(in crate::sim::room) fn request(
        &mut self,
        door: Host,
        id: AdmissionId,
        asker: Host,
        request: AdmissionRequest,
    ) {
        let (peer, observed) = (self.at(asker).id, Some(self.at(asker).addr));
        self.input(
            door,
            Input::Admission(AdmissionCall { id, peer, observed, request, words: "babad-babad-babad".into() }),
        );
    }

    /// A member answers a machine that asks for admission.
    pub(in crate::sim::room) fn answer(&mut self, door: Host, id: AdmissionId, answer: AdmissionAnswer) {
        let state = MachineState::Asking(id, door);
        let Some(asker) = self.hosts().find(|host| self.at(*host).state == state) else { return };
        let lost = self.troubled && self.chance(0.05);
        if !lost {
            let delay = self.between_ms(2, 80);
            self.schedule(delay, move |world| world.answered(id, asker, answer));
        }
    }

    pub(in crate::sim::room) fn answered(&mut self, id: AdmissionId, asker: Host, answer: AdmissionAnswer) {
        let MachineState::Asking(at, door) = self.at(asker).state else { return };
        if at != id {
            return;
        }
        match answer {
            AdmissionAnswer::Admitted(admitted) => self.enter(asker, door, admitted),
            AdmissionAnswer::Denied(_) => self.turn_away(asker),
            AdmissionAnswer::Waiting | AdmissionAnswer::Challenge { .. } => {}
        }
    }

    fn turn_away(&mut self, asker: Host) {
        let machine = self.machine(asker);
        machine.ticket = None;
        machine.state = if machine.disk.held.is_some() { MachineState::Off } else { MachineState::Outside };
    }

    pub(in crate::sim::room) fn give_up(&mut self, id: AdmissionId, asker: Host) {
        let MachineState::Asking(at, door) = self.at(asker).state else { return };
        if at != id {
            return;
        }
        self.turn_away(asker);
        self.input(door, Input::AdmissionGone(id));
    }

    fn enter(&mut self, asker: Host, door: Host, admitted: Admitted) {
        let incarnation = Incarnation(self.rng.random());
        let door = self.at(door).id;
        let machine = self.machine(asker);
        machine.ticket = None;
        machine.doors.insert(0, door);
        machine.doors.truncate(8);
        match &mut machine.disk.held {
            Some(held) => held.keep_addrs(&admitted.members),
            None => machine.disk.held = Some(HeldData::new(admitted.room, incarnation, admitted.members)),
        }
        machine.state = MachineState::Off;
        self.start(asker);
    }

    /// What the person at a machine does with the answer to a command.
    pub(in crate::sim::room) fn follow_up(&mut self, host: Host, reply: Result<Reply, CommandError>) {
        match reply {
            Ok(Reply::Invited(_, ticket)) => {
                let outside: Vec<Host> =
                    self.hosts().filter(|host| self.at(*host).ticket.is_none() && !self.at(*host).is_up()).collect();
                if let Some(friend) = self.pick(&outside) {
                    self.machine(friend).ticket = Some(ticket);
                }
            }
            Ok(Reply::Knocks(knocks)) => {
                for knock in knocks {
                    let verdict = if self.chance(0.8) { Verdict::Yes } else { Verdict::No };
                    self.command(host, Command::AnswerKnock(knock.id, verdict));
                }
            }
            Ok(
                Reply::Done
                | Reply::Posted { .. }
                | Reply::Holders(_)
                | Reply::Peers(_)
                | Reply::Status(_)
                | Reply::Invites(_)
                | Reply::Rendezvous(_),
            )
            | Err(_) => {}
        }
    }
}
