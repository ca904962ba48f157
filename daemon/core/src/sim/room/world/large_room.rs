//! Rooms of any size that are ready at once: all members are admitted before the run begins and hold the log.

use std::time::Duration;

use chat_proto::time::Timestamp;
use rand::RngExt;

use crate::admission::codec::ticket_request;
use crate::input::{AdmissionCall, AdmissionId, Command, Input};
use crate::log::entry::Incarnation;
use crate::peers::addrs::AddrRecord;
use crate::sim::room::machine::{Host, MachineState};
use crate::sim::room::plan::Plan;
use crate::sim::room::world::RoomWorld;

/// Span over which the members of such a room start, in milliseconds.
const STARTING_MS: u64 = 3_000;

impl RoomWorld {
    /// A room in which all machines are members, running and connected.
    pub(in crate::sim::room) fn with_members(seed: u64, plan: Plan) -> Self {
        let mut world = Self::new(seed, plan);
        world.found(Host(0));
        world.run_until(Duration::from_secs(1));
        world.admit_all();
        let records: Vec<AddrRecord> = world
            .machines
            .iter()
            .map(|machine| {
                let time = Timestamp::from_ms(machine.clock.at(Duration::ZERO).wall.as_ms());
                AddrRecord::sign(vec![machine.addr], time, &machine.key)
            })
            .collect();
        let founded = world.at(Host(0)).disk.held.clone().expect("the founder's disk holds the room");
        for host in world.hosts().skip(1) {
            let incarnation = Incarnation(world.rng.random());
            let mut held = founded.clone();
            held.incarnation = incarnation;
            held.keep_addrs(&records);
            let machine = world.machine(host);
            (machine.disk.held, machine.state) = (Some(held), MachineState::Off);
            let after = world.between_ms(0, STARTING_MS);
            world.schedule(after, move |world| world.start(host));
        }
        world.run_until(world.now() + Duration::from_millis(STARTING_MS) + Duration::from_secs(30));
        world
    }

    /// The founder admits all machines, one after the other.
    fn admit_all(&mut self) {
        let uses = u32::try_from(self.machines.len()).expect("a run has few machines");
        let expires = Timestamp::from_ms(self.at(Host(0)).clock.at(self.now()).wall.as_ms() + 3_600_000);
        self.command(Host(0), Command::Invite { expires, uses });
        self.run_until(self.now() + Duration::from_secs(1));
        let Some(ticket) = self.machines.iter().find_map(|machine| machine.ticket.clone()) else { return };
        for host in self.hosts().skip(1) {
            let machine = self.machine(host);
            machine.ticket = None;
            let (peer, name, observed) = (machine.id, machine.name.clone(), Some(machine.addr));
            let request = ticket_request(&ticket, &peer, &name);
            let id = AdmissionId(host.0 as u64);
            self.input(Host(0), Input::Admission(AdmissionCall { id, peer, observed, request, words: "babad".into() }));
            self.run_until(self.now() + Duration::from_millis(10));
        }
        self.run_until(self.now() + Duration::from_secs(1));
    }

    /// Every member posts a message.
    pub(in crate::sim::room) fn say_all(&mut self, pause: Duration) {
        for host in self.hosts() {
            self.say(host, "hello");
            self.run_until(self.now() + pause);
        }
    }
}
