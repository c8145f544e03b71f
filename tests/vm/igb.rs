use crate::Scenario;

pub fn scenarios() -> Vec<Scenario> {
    vec![Scenario::new("application-xdp", "nics eth0 eth1\nsession --emulation --json -- --emulation --json --delay 10000 --count 1\n", |o| { o.assert_success(); o.assert_unchanged(); })]
}
