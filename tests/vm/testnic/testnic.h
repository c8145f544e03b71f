/* SPDX-License-Identifier: GPL-2.0 */
/*
 * testnic: two network devices on a wire of an exact delay, each with a clock
 * of its own (PHC), whose stamps are computed and not measured. For tests.
 *
 * A frame is handed over at an instant T of CLOCK_MONOTONIC. Its transmit stamp
 * is what the sender's clock shows at T, its receive stamp what the receiver's
 * clock shows at T + wire_delay_ns, and it is delivered no earlier than that.
 */
#ifndef TESTNIC_H
#define TESTNIC_H

#include <linux/hrtimer.h>
#include <linux/list.h>
#include <linux/net_tstamp.h>
#include <linux/netdevice.h>
#include <linux/ptp_clock_kernel.h>
#include <linux/spinlock.h>
#include <net/xdp.h>

#define TN_MAX_QUEUES 8
/* Frames under way to one device; more are lost. */
#define TN_MAX_FRAMES 8192
/* Where a frame and its headrooms fit into one page. */
#define TN_MAX_MTU 3000

enum tn_filters {
	TN_FILTERS_ALL,
	TN_FILTERS_PTP_ONLY,
};

enum tn_kfunc {
	TN_KFUNC_OK,
	TN_KFUNC_ABSENT,
	TN_KFUNC_ENODATA,
	TN_KFUNC_ZERO,
};

enum tn_phc_read {
	TN_PHC_CROSS,
	TN_PHC_EXTENDED,
	TN_PHC_BASIC,
};

/* What the module parameters say; they are described where they are declared. */
struct tn_options {
	unsigned long wire_delay_ns;
	unsigned int queues;
	long offset_ns[2];
	int drift_ppb[2];
	enum tn_filters filters;
	bool lists_all;
	enum tn_kfunc kfunc;
	enum tn_phc_read phc_read;
	unsigned int tx_refused;
	unsigned int tx_lost;
	unsigned long tx_late_ns;
	bool tx_reorder;
	bool tx_duplicate;
	bool tx_one_slot;
	unsigned int tx_wild;
	unsigned int rx_lost;
	unsigned int rx_wild;
	bool reset_on_xdp;
	unsigned int carrier_down_ms;
	unsigned int rx_usecs;
};

extern struct tn_options tn_options;

/* Counters that ethtool -S shows: the truth that a log is compared with. */
enum tn_stat {
	TN_TX_FRAMES,
	TN_TX_REFUSED,
	TN_TX_STAMP_REQUESTED,
	TN_TX_STAMP_DELIVERED,
	TN_TX_STAMP_LOST,
	TN_TX_STAMP_SKIPPED,
	TN_RX_FRAMES,
	TN_RX_STAMPED,
	TN_RX_STAMP_MISSED,
	TN_RX_STAMP_CLEARED,
	TN_RX_STAMP_READ_SKB,
	TN_RX_STAMP_READ_XDP,
	TN_RX_LINK_DOWN,
	TN_RX_XDP_PASS,
	TN_RX_XDP_REDIRECT,
	TN_RX_XDP_TX,
	TN_RX_XDP_DROP,
	TN_PTP_EVENTS_REDIRECTED,
	TN_STATS,
};

/* A share of events, per mille, spread evenly: the n-th event's lot is known. */
struct tn_share {
	unsigned int sum;
};

static inline bool tn_share_hits(struct tn_share *share, unsigned int per_mille)
{
	share->sum += per_mille;
	if (share->sum < 1000)
		return false;
	share->sum -= 1000;
	return true;
}

/*
 * A clock that shows phc at the instant mono of CLOCK_MONOTONIC, and runs by
 * drift_ppb (the crystal's) plus scaled_ppm (the user's adjustment) too fast.
 */
struct tn_clock {
	spinlock_t lock;
	u64 mono;
	u64 phc;
	s64 drift_ppb;
	s64 scaled_ppm;
	/* CLOCK_REALTIME when the module was loaded: here the drift began. */
	u64 epoch;
	struct ptp_clock_info info;
	struct ptp_clock *ptp;
};

/* A frame on the wire or in a receive queue. Its bytes are its own. */
struct tn_frame {
	struct list_head list;
	/* When it arrives, in ns of CLOCK_MONOTONIC. */
	u64 arrival;
	/* Its hardware stamp; 0 where it got none. */
	u64 stamp;
	/* The stamp is in the one register, and not beside the frame. */
	bool latched;
	bool ptp_event;
	u16 queue;
	u16 len;
	u8 data[];
};

struct tn_queue {
	struct tn_dev *dev;
	u16 index;
	struct napi_struct napi;
	struct xdp_rxq_info xdp_rxq;
	/* Arrived frames; under the device's lock. */
	struct list_head frames;
};

struct tn_dev {
	struct net_device *netdev;
	struct tn_dev *peer;
	struct tn_clock clock;
	struct bpf_prog *prog;
	struct tn_queue queue[TN_MAX_QUEUES];
	atomic64_t stat[TN_STATS];

	/* Of what comes in: the wire, the queues, the register. */
	spinlock_t lock;
	struct list_head wire;
	unsigned int frames;
	struct hrtimer arrival;
	struct kernel_hwtstamp_config hwtstamp;
	bool latched;
	u64 latched_at;
	struct tn_share rx_lost;
	struct tn_share rx_wild;

	/* Of what goes out: stamps that are not delivered yet. */
	spinlock_t tx_lock;
	struct list_head stamps;
	struct tn_pending *held;
	struct hrtimer stamp_timer;
	struct tn_share tx_refused;
	struct tn_share tx_lost;
	struct tn_share tx_wild;
};

static inline void tn_count(struct tn_dev *dev, enum tn_stat stat)
{
	atomic64_inc(&dev->stat[stat]);
}

/* clock.c */
int tn_clock_register(struct tn_clock *clock, unsigned int index);
void tn_clock_unregister(struct tn_clock *clock);
u64 tn_clock_at(struct tn_clock *clock, u64 mono);

/* stamp.c */
int tn_hwtstamp_get(struct net_device *netdev,
		    struct kernel_hwtstamp_config *config);
int tn_hwtstamp_set(struct net_device *netdev,
		    struct kernel_hwtstamp_config *config,
		    struct netlink_ext_ack *extack);
void tn_stamp_init(struct tn_dev *dev);
void tn_stamp_reset(struct tn_dev *dev);
void tn_stamp_stop(struct tn_dev *dev);
bool tn_stamp_tx_wanted(struct tn_dev *dev, struct sk_buff *skb);
void tn_stamp_tx(struct tn_dev *dev, struct sk_buff *skb, u64 mono);
void tn_stamp_rx(struct tn_dev *dev, struct tn_frame *frame);
u64 tn_stamp_take(struct tn_dev *dev, struct tn_frame *frame);

/* wire.c */
void tn_wire_init(struct tn_dev *dev);
void tn_wire_stop(struct tn_dev *dev);
struct tn_frame *tn_frame_alloc(unsigned int len);
u64 tn_wire_send(struct tn_dev *to, struct tn_frame *frame);
struct tn_frame *tn_queue_pop(struct tn_queue *queue);

/* receive.c */
int tn_poll(struct napi_struct *napi, int budget);
const struct xdp_metadata_ops *tn_metadata_ops(void);

/* ethtool.c */
extern const struct ethtool_ops tn_ethtool_ops;

#endif
