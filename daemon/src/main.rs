//! `chatd`: the chatroom daemon and the commands that start, stop and ask it.

fn main() {}
