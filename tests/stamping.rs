//! What the kernel says of stamping for interfaces without a card behind them, in network namespaces. Needs root.

#[path = "support/lan.rs"]
mod lan;

use lan::{ETH, Lan};
use nix::net::if_::if_nametoindex;
use xdprobe::net::hwtstamp::{self, RxFilter, Stamping, StampingError};
use xdprobe::net::netdev::{self, RX_METADATA_TIMESTAMP, XDP_ACT_BASIC, XDP_ACT_REDIRECT, XDP_ACT_XSK_ZEROCOPY};
use xdprobe::net::tsinfo::tsinfo;

#[test]
fn a_veth_stamps_in_software_only() {
    let lan = Lan::new();
    let info = lan.a.run(|| tsinfo(if_nametoindex(ETH).unwrap())).unwrap().expect("a kernel of this decade");
    assert!(info.software_tx() && info.software_rx());
    assert!(!info.hardware_tx() && !info.hardware_rx());
    assert_eq!((info.phc, info.tx_types.len(), info.rx_filters.len()), (None, 0, 0));
}

#[test]
fn the_loopback_interface_stamps_in_software_only() {
    let lan = Lan::new();
    let info = lan.a.run(|| tsinfo(1)).unwrap().expect("a kernel of this decade");
    assert!(info.software_tx() && info.software_rx() && !info.hardware_rx());
    assert_eq!(info.phc, None);
}

#[test]
fn stamping_by_a_veth_is_refused_and_leaves_nothing() {
    let lan = Lan::new();
    for interface in [ETH, "lo"] {
        lan.a.run(|| {
            let index = if_nametoindex(interface).unwrap();
            let read = hwtstamp::read(interface, index).unwrap_err();
            assert!(matches!(read, StampingError::NoHardware { .. }), "{read:?}");
            let refused =
                Stamping::turn_on(interface, index, &[RxFilter::All, RxFilter::PtpV2Event], None).unwrap_err();
            assert_eq!(refused, read);
            let said = refused.to_string();
            assert!(said.starts_with(&format!("{interface} takes no hardware stamps: its driver cannot ")), "{said}");
            assert!(said.ends_with("use --timestamps software or application"), "{said}");
        });
    }
}

#[test]
fn an_interface_is_asked_by_whatever_name_it_has_by_then() {
    let lan = Lan::new();
    let index = lan.a.run(|| if_nametoindex(ETH).unwrap());
    let read = || lan.a.run(|| hwtstamp::read(ETH, index).unwrap_err());
    lan.a.ip(&["link", "set", ETH, "down"]);
    lan.a.ip(&["link", "set", ETH, "name", "lan0"]);
    let error = read();
    assert!(matches!(error, StampingError::NoHardware { .. }), "{error:?}");
    lan.a.ip(&["link", "del", "lan0"]);
    let error = read();
    assert!(matches!(error, StampingError::Refused { answer: nix::errno::Errno::ENODEV, .. }), "{error:?}");
}

#[test]
fn an_interface_that_does_not_exist_is_an_error() {
    let error = hwtstamp::read("no-such-nic", i32::MAX as u32).unwrap_err();
    assert!(matches!(error, StampingError::Refused { answer: nix::errno::Errno::ENODEV, .. }), "{error:?}");
    assert!(tsinfo(i32::MAX as u32).is_err());
    assert!(netdev::xdp_features(i32::MAX as u32).is_err());
}

#[test]
fn a_veth_has_native_xdp_and_the_receive_stamp_kfunc_and_no_zero_copy() {
    let lan = Lan::new();
    let features = lan.a.run(|| netdev::xdp_features(if_nametoindex(ETH).unwrap())).unwrap();
    let xdp = features.xdp.expect("a kernel from 6.3");
    assert_eq!(xdp & (XDP_ACT_BASIC | XDP_ACT_REDIRECT), XDP_ACT_BASIC | XDP_ACT_REDIRECT);
    assert_eq!(xdp & XDP_ACT_XSK_ZEROCOPY, 0);
    assert_eq!(features.zero_copy_max_segments, None);
    assert_eq!(features.rx_metadata.expect("a kernel from 6.7") & RX_METADATA_TIMESTAMP, RX_METADATA_TIMESTAMP);
    assert_eq!(features.xsk.expect("a kernel from 6.8"), 0);
    let names = features.rx_metadata_names().unwrap();
    assert!(names.contains(&"timestamp".to_owned()), "{names:?}");
}

#[test]
fn the_loopback_interface_has_no_xdp_of_its_own() {
    let lan = Lan::new();
    let features = lan.a.run(|| netdev::xdp_features(1)).unwrap();
    assert_eq!((features.xdp, features.rx_metadata), (Some(0), Some(0)));
}
