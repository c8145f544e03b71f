// SPDX-License-Identifier: GPL-2.0
/*
 * The wire: frames under way, in the order in which they were sent, and the
 * moment at which they reach a receive queue.
 */
#include <linux/etherdevice.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/slab.h>
#include <linux/udp.h>
#include <net/ip.h>

#include "testnic.h"

#define TN_PTP_PORT 319

struct tn_frame *tn_frame_alloc(unsigned int len)
{
	struct tn_frame *frame = kzalloc(struct_size(frame, data, len),
					 GFP_ATOMIC);

	if (frame)
		frame->len = len;
	return frame;
}

/* Version 2 and an event type: what a filter for PTP looks at. */
static bool tn_is_ptp_event(const u8 *ptp)
{
	return (ptp[0] & 0x0f) <= 3 && (ptp[1] & 0x0f) == 2;
}

/*
 * Finds the receive queue, by the sum of the UDP ports, and whether the frame
 * is a PTPv2 event message over Ethernet or over UDP and IPv4.
 */
static void tn_classify(struct tn_frame *frame, unsigned int queues)
{
	const struct ethhdr *eth = (const struct ethhdr *)frame->data;
	unsigned int ip_at = ETH_HLEN, udp_at;
	const struct udphdr *udp;
	const struct iphdr *ip;

	if (frame->len < ETH_HLEN + 2)
		return;
	if (eth->h_proto == htons(ETH_P_1588)) {
		frame->ptp_event = tn_is_ptp_event(frame->data + ETH_HLEN);
		return;
	}
	if (eth->h_proto != htons(ETH_P_IP) ||
	    frame->len < ip_at + sizeof(*ip))
		return;
	ip = (const struct iphdr *)(frame->data + ip_at);
	udp_at = ip_at + ip->ihl * 4;
	if (ip->protocol != IPPROTO_UDP || ip_is_fragment(ip) ||
	    frame->len < udp_at + sizeof(*udp) + 2)
		return;
	udp = (const struct udphdr *)(frame->data + udp_at);
	frame->queue = (ntohs(udp->source) + ntohs(udp->dest)) % queues;
	frame->ptp_event = udp->dest == htons(TN_PTP_PORT) &&
			   tn_is_ptp_event(frame->data + udp_at + sizeof(*udp));
}

/*
 * Puts a frame on the wire to a device, for it to keep, and returns the instant
 * at which it left, in ns of CLOCK_MONOTONIC.
 */
u64 tn_wire_send(struct tn_dev *to, struct tn_frame *frame)
{
	unsigned long flags;
	bool first;
	u64 now;

	tn_classify(frame, tn_options.queues);
	spin_lock_irqsave(&to->lock, flags);
	/* Read under the lock: the wire is in the order of time. */
	now = ktime_get_ns();
	frame->arrival = now + tn_options.wire_delay_ns;
	if (to->frames >= TN_MAX_FRAMES) {
		to->netdev->stats.rx_dropped++;
		spin_unlock_irqrestore(&to->lock, flags);
		kfree(frame);
		return now;
	}
	to->frames++;
	first = list_empty(&to->wire);
	list_add_tail(&frame->list, &to->wire);
	if (first)
		hrtimer_start(&to->arrival, ns_to_ktime(frame->arrival),
			      HRTIMER_MODE_ABS);
	spin_unlock_irqrestore(&to->lock, flags);
	return now;
}

static void tn_arrive(struct tn_dev *dev, struct tn_frame *frame)
{
	struct tn_queue *queue = &dev->queue[frame->queue];

	list_del(&frame->list);
	if (!netif_running(dev->netdev) || !netif_carrier_ok(dev->netdev)) {
		tn_count(dev, TN_RX_LINK_DOWN);
		dev->frames--;
		kfree(frame);
		return;
	}
	tn_count(dev, TN_RX_FRAMES);
	tn_stamp_rx(dev, frame);
	list_add_tail(&frame->list, &queue->frames);
	napi_schedule(&queue->napi);
}

static enum hrtimer_restart tn_arrival(struct hrtimer *timer)
{
	struct tn_dev *dev = container_of(timer, struct tn_dev, arrival);
	struct tn_frame *frame;
	unsigned long flags;
	u64 now;

	spin_lock_irqsave(&dev->lock, flags);
	now = ktime_get_ns();
	while (!list_empty(&dev->wire)) {
		frame = list_first_entry(&dev->wire, struct tn_frame, list);
		if (frame->arrival > now) {
			hrtimer_start(timer, ns_to_ktime(frame->arrival),
				      HRTIMER_MODE_ABS);
			break;
		}
		tn_arrive(dev, frame);
	}
	spin_unlock_irqrestore(&dev->lock, flags);
	return HRTIMER_NORESTART;
}

/* The next frame of a receive queue, for the caller to free. */
struct tn_frame *tn_queue_pop(struct tn_queue *queue)
{
	struct tn_dev *dev = queue->dev;
	struct tn_frame *frame;
	unsigned long flags;

	spin_lock_irqsave(&dev->lock, flags);
	frame = list_first_entry_or_null(&queue->frames, struct tn_frame, list);
	if (frame) {
		list_del(&frame->list);
		dev->frames--;
	}
	spin_unlock_irqrestore(&dev->lock, flags);
	return frame;
}

void tn_wire_init(struct tn_dev *dev)
{
	spin_lock_init(&dev->lock);
	INIT_LIST_HEAD(&dev->wire);
	hrtimer_init(&dev->arrival, CLOCK_MONOTONIC, HRTIMER_MODE_ABS);
	dev->arrival.function = tn_arrival;
}

static void tn_drop_all(struct tn_dev *dev, struct list_head *frames)
{
	struct tn_frame *frame, *next;

	list_for_each_entry_safe(frame, next, frames, list) {
		list_del(&frame->list);
		dev->frames--;
		kfree(frame);
	}
}

/* Drops what is under way and what is in the queues. */
void tn_wire_stop(struct tn_dev *dev)
{
	unsigned long flags;
	unsigned int i;

	hrtimer_cancel(&dev->arrival);
	spin_lock_irqsave(&dev->lock, flags);
	tn_drop_all(dev, &dev->wire);
	for (i = 0; i < tn_options.queues; i++)
		tn_drop_all(dev, &dev->queue[i].frames);
	dev->latched = false;
	spin_unlock_irqrestore(&dev->lock, flags);
}
