// SPDX-License-Identifier: GPL-2.0
/*
 * Hardware stamps: how stamping is switched, which frames get a stamp, and how
 * a transmit stamp finds its way back.
 */
#include <linux/errqueue.h>
#include <linux/skbuff.h>
#include <linux/slab.h>

#include "testnic.h"

/* A driver frees a register whose frame never became an skb after this long. */
#define TN_LATCH_NS (5ULL * NSEC_PER_SEC)
/* The first stamp of a pair waits this long for the one that overtakes it. */
#define TN_REORDER_NS (20ULL * NSEC_PER_MSEC)
/* How far a stamp that makes no sense is off. */
#define TN_WILD_NS (2ULL * 3600 * NSEC_PER_SEC)

struct tn_pending {
	struct list_head list;
	struct sk_buff *skb;
	u64 stamp;
	u64 due;
};

int tn_hwtstamp_get(struct net_device *netdev,
		    struct kernel_hwtstamp_config *config)
{
	struct tn_dev *dev = netdev_priv(netdev);

	config->flags = 0;
	config->tx_type = dev->hwtstamp.tx_type;
	config->rx_filter = dev->hwtstamp.rx_filter;
	return 0;
}

/* The filter that is set for the one that is asked for, or an error. */
static int tn_granted(int filter)
{
	switch (filter) {
	case HWTSTAMP_FILTER_NONE:
		return filter;
	case HWTSTAMP_FILTER_PTP_V1_L4_SYNC:
	case HWTSTAMP_FILTER_PTP_V1_L4_DELAY_REQ:
		if (tn_options.filters == TN_FILTERS_PTP_ONLY)
			return filter;
		return HWTSTAMP_FILTER_ALL;
	case HWTSTAMP_FILTER_PTP_V2_EVENT:
	case HWTSTAMP_FILTER_PTP_V2_SYNC:
	case HWTSTAMP_FILTER_PTP_V2_DELAY_REQ:
	case HWTSTAMP_FILTER_PTP_V2_L2_EVENT:
	case HWTSTAMP_FILTER_PTP_V2_L2_SYNC:
	case HWTSTAMP_FILTER_PTP_V2_L2_DELAY_REQ:
	case HWTSTAMP_FILTER_PTP_V2_L4_EVENT:
	case HWTSTAMP_FILTER_PTP_V2_L4_SYNC:
	case HWTSTAMP_FILTER_PTP_V2_L4_DELAY_REQ:
		if (tn_options.filters == TN_FILTERS_PTP_ONLY)
			return HWTSTAMP_FILTER_PTP_V2_EVENT;
		return HWTSTAMP_FILTER_ALL;
	default:
		if (tn_options.filters == TN_FILTERS_PTP_ONLY)
			return -ERANGE;
		return HWTSTAMP_FILTER_ALL;
	}
}

int tn_hwtstamp_set(struct net_device *netdev,
		    struct kernel_hwtstamp_config *config,
		    struct netlink_ext_ack *extack)
{
	struct tn_dev *dev = netdev_priv(netdev);
	unsigned long flags;
	int filter;

	if (config->flags)
		return -EINVAL;
	if (config->tx_type != HWTSTAMP_TX_OFF &&
	    config->tx_type != HWTSTAMP_TX_ON)
		return -ERANGE;
	filter = tn_granted(config->rx_filter);
	if (filter < 0)
		return filter;
	config->rx_filter = filter;

	spin_lock_irqsave(&dev->lock, flags);
	dev->hwtstamp.tx_type = config->tx_type;
	dev->hwtstamp.rx_filter = filter;
	dev->latched = false;
	spin_unlock_irqrestore(&dev->lock, flags);
	return 0;
}

/* Stamping is off, as after a reset of the device. */
void tn_stamp_reset(struct tn_dev *dev)
{
	unsigned long flags;

	spin_lock_irqsave(&dev->lock, flags);
	dev->hwtstamp.tx_type = HWTSTAMP_TX_OFF;
	dev->hwtstamp.rx_filter = HWTSTAMP_FILTER_NONE;
	dev->latched = false;
	spin_unlock_irqrestore(&dev->lock, flags);
}

static void tn_deliver(struct tn_dev *dev, struct sk_buff *skb, u64 stamp)
{
	struct skb_shared_hwtstamps stamps = {
		.hwtstamp = ns_to_ktime(stamp),
	};

	skb_tstamp_tx(skb, &stamps);
	if (tn_options.tx_duplicate)
		skb_tstamp_tx(skb, &stamps);
	tn_count(dev, TN_TX_STAMP_DELIVERED);
	dev_consume_skb_any(skb);
}

/* Delivers what is due, and sets the timer for what is not. */
static enum hrtimer_restart tn_stamp_timer(struct hrtimer *timer)
{
	struct tn_dev *dev = container_of(timer, struct tn_dev, stamp_timer);
	struct tn_pending *pending;
	LIST_HEAD(due);
	u64 now;

	spin_lock(&dev->tx_lock);
	now = ktime_get_ns();
	while (!list_empty(&dev->stamps)) {
		pending = list_first_entry(&dev->stamps, struct tn_pending,
					   list);
		if (pending->due > now) {
			hrtimer_start(timer, ns_to_ktime(pending->due),
				      HRTIMER_MODE_ABS_SOFT);
			break;
		}
		if (pending == dev->held)
			dev->held = NULL;
		list_move_tail(&pending->list, &due);
	}
	spin_unlock(&dev->tx_lock);

	while (!list_empty(&due)) {
		pending = list_first_entry(&due, struct tn_pending, list);
		list_del(&pending->list);
		tn_deliver(dev, pending->skb, pending->stamp);
		kfree(pending);
	}
	return HRTIMER_NORESTART;
}

/*
 * Queues a stamp. The list is in the order of delivery: stamps are as late as
 * each other, and the first of a pair is moved behind the second.
 */
static void tn_stamp_later(struct tn_dev *dev, struct tn_pending *pending)
{
	spin_lock_bh(&dev->tx_lock);
	pending->due = ktime_get_ns() + tn_options.tx_late_ns;
	list_add_tail(&pending->list, &dev->stamps);
	if (tn_options.tx_reorder && dev->held) {
		dev->held->due = pending->due;
		list_move_tail(&dev->held->list, &dev->stamps);
		dev->held = NULL;
	} else if (tn_options.tx_reorder) {
		pending->due += TN_REORDER_NS;
		dev->held = pending;
	}
	pending = list_first_entry(&dev->stamps, struct tn_pending, list);
	hrtimer_start(&dev->stamp_timer, ns_to_ktime(pending->due),
		      HRTIMER_MODE_ABS_SOFT);
	spin_unlock_bh(&dev->tx_lock);
}

/* Whether the hardware will try to stamp this frame. */
bool tn_stamp_tx_wanted(struct tn_dev *dev, struct sk_buff *skb)
{
	if (!(skb_shinfo(skb)->tx_flags & SKBTX_HW_TSTAMP) ||
	    READ_ONCE(dev->hwtstamp.tx_type) != HWTSTAMP_TX_ON)
		return false;
	tn_count(dev, TN_TX_STAMP_REQUESTED);
	if (tn_options.tx_one_slot && !list_empty_careful(&dev->stamps)) {
		tn_count(dev, TN_TX_STAMP_SKIPPED);
		return false;
	}
	return true;
}

/* Stamps a frame that left at this instant, and consumes the skb. */
void tn_stamp_tx(struct tn_dev *dev, struct sk_buff *skb, u64 mono)
{
	struct tn_pending *pending = NULL;
	bool lost, wild;
	u64 stamp;

	spin_lock_bh(&dev->tx_lock);
	lost = tn_share_hits(&dev->tx_lost, tn_options.tx_lost);
	wild = !lost && tn_share_hits(&dev->tx_wild, tn_options.tx_wild);
	spin_unlock_bh(&dev->tx_lock);

	stamp = tn_clock_at(&dev->clock, mono) + (wild ? TN_WILD_NS : 0);
	if (!lost && !tn_options.tx_late_ns && !tn_options.tx_reorder) {
		tn_deliver(dev, skb, stamp);
		return;
	}
	if (!lost)
		pending = kmalloc(sizeof(*pending), GFP_ATOMIC);
	if (!pending) {
		tn_count(dev, TN_TX_STAMP_LOST);
		dev_consume_skb_any(skb);
		return;
	}
	pending->skb = skb;
	pending->stamp = stamp;
	tn_stamp_later(dev, pending);
}

/* Stamps a frame that has arrived; under the device's lock. */
void tn_stamp_rx(struct tn_dev *dev, struct tn_frame *frame)
{
	int filter = dev->hwtstamp.rx_filter;

	if (filter != HWTSTAMP_FILTER_ALL &&
	    !(filter == HWTSTAMP_FILTER_PTP_V2_EVENT && frame->ptp_event))
		return;
	if (tn_share_hits(&dev->rx_lost, tn_options.rx_lost)) {
		tn_count(dev, TN_RX_STAMP_MISSED);
		return;
	}
	if (filter == HWTSTAMP_FILTER_PTP_V2_EVENT) {
		if (dev->latched &&
		    frame->arrival - dev->latched_at > TN_LATCH_NS) {
			tn_count(dev, TN_RX_STAMP_CLEARED);
			dev->latched = false;
		}
		if (dev->latched) {
			tn_count(dev, TN_RX_STAMP_MISSED);
			return;
		}
		dev->latched = true;
		dev->latched_at = frame->arrival;
		frame->latched = true;
	}
	frame->stamp = tn_clock_at(&dev->clock, frame->arrival);
	if (tn_share_hits(&dev->rx_wild, tn_options.rx_wild))
		frame->stamp += TN_WILD_NS;
	tn_count(dev, TN_RX_STAMPED);
}

/* A frame's stamp, 0 where it has none. Reading it empties the register. */
u64 tn_stamp_take(struct tn_dev *dev, struct tn_frame *frame)
{
	unsigned long flags;

	spin_lock_irqsave(&dev->lock, flags);
	if (frame->latched && dev->latched_at == frame->arrival)
		dev->latched = false;
	frame->latched = false;
	spin_unlock_irqrestore(&dev->lock, flags);
	return frame->stamp;
}

void tn_stamp_init(struct tn_dev *dev)
{
	spin_lock_init(&dev->tx_lock);
	INIT_LIST_HEAD(&dev->stamps);
	hrtimer_init(&dev->stamp_timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_SOFT);
	dev->stamp_timer.function = tn_stamp_timer;
}

/* Drops what is not delivered; nothing is sent any more. */
void tn_stamp_stop(struct tn_dev *dev)
{
	struct tn_pending *pending, *next;

	hrtimer_cancel(&dev->stamp_timer);
	list_for_each_entry_safe(pending, next, &dev->stamps, list) {
		list_del(&pending->list);
		tn_count(dev, TN_TX_STAMP_LOST);
		dev_consume_skb_any(pending->skb);
		kfree(pending);
	}
	dev->held = NULL;
}
