/* SPDX-License-Identifier: MIT */
/*
 * What the XDP program and the process share: the record in front of a frame, the settings, the counters.
 *
 * src/path/xdp/layout.rs mirrors the record and does not compile where an offset or a size differs; the others are used
 * as they are generated from here.
 * Only fixed-width types, every byte named: no padding that a compiler may choose.
 */
#ifndef XDPROBE_STEER_H
#define XDPROBE_STEER_H

#include <linux/types.h>

/* "xdp" and the version of struct steer_meta: another layout gets another number. */
#define STEER_MAGIC 0x78647001u

/*
 * Lies in the bytes right before the frame's first one (the XDP metadata area: a multiple of 4 bytes, at most 252;
 * kernel: bpf_xdp_adjust_meta). Host byte order: it never leaves the machine.
 */
struct steer_meta {
	__u64 hardware_ns; /* the card's receive stamp in ns of its own clock; 0: none */
	__u64 hook_tai_ns; /* CLOCK_TAI in ns when the program saw the frame */
	__u32 rx_queue;    /* the receive queue */
	__u32 magic;       /* STEER_MAGIC: last, so that it is found right before the frame */
};

/* What is steered. Written before the program is loaded: the verifier then knows the values. */
struct steer_config {
	__be32 address; /* destination address, network byte order */
	__be16 port;    /* destination UDP port, network byte order */
	__u8 mac[6];    /* destination Ethernet address: the interface's own */
	__u32 record_every; /* one frame of so many gets a record, on average; at least 1. Host byte order */
};

/*
 * A probe behind a PTPv2 Sync header (IEEE 1588-2008, 13.3), over UDP port 319 or EtherType 0x88F7, is told from a clock's
 * own messages by its domain and by the first bytes of its clockIdentity. src/wire/ptp.rs writes and reads these.
 */
#define STEER_PTP_PORT 319
#define STEER_PTP_DOMAIN 120
#define STEER_PTP_MAGIC "nxdp"
#define STEER_PTP_MAGIC_BYTES 4
#define STEER_PTP_HEADER_BYTES 44
/* versionPTP: the card stamps such a frame; and one that no PTP has, so that it leaves the frame alone. */
#define STEER_PTP_STAMPED 0x02
#define STEER_PTP_UNSTAMPED 0xff

/*
 * Whose packets to the port are left to the kernel although they are the probe's, in network byte order; all zeros:
 * nobody's. Packets behind a PTP header are known by the sender that the header names.
 */
struct steer_peer {
	__be32 address;
	__be16 port;
	__u16 reserved; /* 0 */
};

/* One per CPU; the sum over the CPUs is the count, unless said otherwise. seen = redirected + passed; malformed is part of passed. */
struct steer_counters {
	__u64 seen;
	__u64 redirected;
	__u64 passed;
	__u64 malformed;
	__u64 unstamped;   /* redirected although the card was asked for a stamp and gave none */
	__u64 stamp_error; /* the last errno of asking it, 0 where it said yes and gave 0 (a maximum, not a sum) */
	__u64 until_record; /* frames without a record before the next one with one (no count) */
};

#endif
