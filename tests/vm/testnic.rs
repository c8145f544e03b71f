use crate::Scenario;
use crate::outcome::{Side, SIDES};

pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for path in ["xdp", "kernel"] {
        for (mode, flag) in [("forward", ""), ("reverse", "--reverse"), ("duplex", "--duplex")] {
            all.push(Scenario::new(
                format!("application-{path}-{mode}"),
                format!("testnic\nsession --timestamps application --path {path} --json -- --timestamps application --path {path} --json --delay 10000 --count 1 {flag}\n"),
                |outcome| {
                    outcome.assert_success();
                    outcome.assert_unchanged();
                },
            ));
        }
    }
    if crate::guest::original().is_some() {
        for (mode, flag) in [("forward", ""), ("reverse", "--reverse"), ("duplex", "--duplex")] {
            all.push(Scenario::new(
                format!("original-{mode}"),
                format!("testnic offset_ns=1000000000,7777000000000
begin server server original --server --interface tn1 --log $out/server.csv
begin client client original --client --interface tn0 --delay 10000 --count 1 {flag} --log $out/client.csv 10.0.0.2
finish client server
hwtstamp before
observe
"),
                |outcome| {
                    for side in SIDES { let l = outcome.log(side); println!("{:?}", l.points()); }
                    let (c, s) = (outcome.log(Side::Client), outcome.log(Side::Server));
                    let (t0,t1,t2,t3) = (c.point("t0"), s.point("t1"), s.point("t2"), c.point("t3"));
                    let mut n = 0;
                    for (q, a) in &t0 { if let (Some(b), Some(x), Some(d)) = (t1.get(q), t2.get(q), t3.get(q)) {
                        assert_eq!((d - a) - (x - b), 20000); n += 1; } }
                    println!("{n}");
                },
            ));
        }
    }
    all
}
