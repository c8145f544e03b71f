// SPDX-License-Identifier: GPL-2.0
/*
 * The receive side of a queue: NAPI, native XDP, and what its programs may ask
 * about a frame.
 */
#include <linux/bpf.h>
#include <linux/bpf_trace.h>
#include <linux/etherdevice.h>
#include <linux/filter.h>
#include <linux/slab.h>

#include "testnic.h"

/* What an XDP program runs on, and the frame that it came from. */
struct tn_xdp_buff {
	struct xdp_buff xdp;
	struct tn_dev *dev;
	struct tn_frame *frame;
};

static int tn_xmo_rx_timestamp(const struct xdp_md *ctx, u64 *timestamp)
{
	const struct tn_xdp_buff *buff = (const void *)ctx;
	u64 stamp = tn_stamp_take(buff->dev, buff->frame);

	if (!stamp)
		return -ENODATA;
	tn_count(buff->dev, TN_RX_STAMP_READ_XDP);
	*timestamp = stamp;
	return 0;
}

static int tn_xmo_rx_timestamp_enodata(const struct xdp_md *ctx, u64 *timestamp)
{
	return -ENODATA;
}

/* As veth: success, and no time. */
static int tn_xmo_rx_timestamp_zero(const struct xdp_md *ctx, u64 *timestamp)
{
	*timestamp = 0;
	return 0;
}

static const struct xdp_metadata_ops tn_ops_ok = {
	.xmo_rx_timestamp = tn_xmo_rx_timestamp,
};

static const struct xdp_metadata_ops tn_ops_enodata = {
	.xmo_rx_timestamp = tn_xmo_rx_timestamp_enodata,
};

static const struct xdp_metadata_ops tn_ops_zero = {
	.xmo_rx_timestamp = tn_xmo_rx_timestamp_zero,
};

const struct xdp_metadata_ops *tn_metadata_ops(void)
{
	switch (tn_options.kfunc) {
	case TN_KFUNC_OK:
		return &tn_ops_ok;
	case TN_KFUNC_ENODATA:
		return &tn_ops_enodata;
	case TN_KFUNC_ZERO:
		return &tn_ops_zero;
	default:
		return NULL;
	}
}

/* Gives bytes to the stack, with meta bytes of XDP metadata in front. */
static void tn_to_stack(struct tn_queue *queue, struct tn_frame *frame,
			const void *data, unsigned int len, unsigned int meta)
{
	struct net_device *netdev = queue->dev->netdev;
	struct sk_buff *skb;
	u64 stamp;

	skb = napi_alloc_skb(&queue->napi, meta + len);
	if (!skb) {
		netdev->stats.rx_dropped++;
		return;
	}
	skb_put_data(skb, data - meta, meta + len);
	if (meta) {
		__skb_pull(skb, meta);
		skb_metadata_set(skb, meta);
	}
	stamp = tn_stamp_take(queue->dev, frame);
	if (stamp) {
		skb_hwtstamps(skb)->hwtstamp = ns_to_ktime(stamp);
		tn_count(queue->dev, TN_RX_STAMP_READ_SKB);
	}
	skb_record_rx_queue(skb, queue->index);
	skb->protocol = eth_type_trans(skb, netdev);
	netif_receive_skb(skb);
}

static void tn_send_back(struct tn_queue *queue, const struct xdp_buff *xdp)
{
	unsigned int len = xdp->data_end - xdp->data;
	struct tn_frame *frame = tn_frame_alloc(len);

	if (!frame)
		return;
	memcpy(frame->data, xdp->data, len);
	tn_count(queue->dev, TN_TX_FRAMES);
	tn_wire_send(queue->dev->peer, frame);
}

/* Runs a program on a copy of the frame in a page; true where it redirects. */
static bool tn_run_xdp(struct tn_queue *queue, struct tn_frame *frame,
		       struct bpf_prog *prog)
{
	struct tn_dev *dev = queue->dev;
	struct tn_xdp_buff buff = { .dev = dev, .frame = frame };
	struct xdp_buff *xdp = &buff.xdp;
	struct page *page = dev_alloc_page();
	u32 action;

	if (!page) {
		dev->netdev->stats.rx_dropped++;
		return false;
	}
	xdp_init_buff(xdp, PAGE_SIZE, &queue->xdp_rxq);
	xdp_prepare_buff(xdp, page_address(page), XDP_PACKET_HEADROOM,
			 frame->len, true);
	memcpy(xdp->data, frame->data, frame->len);

	action = bpf_prog_run_xdp(prog, xdp);
	switch (action) {
	case XDP_PASS:
		tn_count(dev, TN_RX_XDP_PASS);
		tn_to_stack(queue, frame, xdp->data, xdp->data_end - xdp->data,
			    xdp->data - xdp->data_meta);
		break;
	case XDP_TX:
		tn_count(dev, TN_RX_XDP_TX);
		tn_send_back(queue, xdp);
		break;
	case XDP_REDIRECT:
		if (!xdp_do_redirect(dev->netdev, xdp, prog)) {
			tn_count(dev, TN_RX_XDP_REDIRECT);
			if (frame->ptp_event)
				tn_count(dev, TN_PTP_EVENTS_REDIRECTED);
			return true;
		}
		trace_xdp_exception(dev->netdev, prog, action);
		tn_count(dev, TN_RX_XDP_DROP);
		break;
	default:
		bpf_warn_invalid_xdp_action(dev->netdev, prog, action);
		fallthrough;
	case XDP_ABORTED:
		trace_xdp_exception(dev->netdev, prog, action);
		fallthrough;
	case XDP_DROP:
		tn_count(dev, TN_RX_XDP_DROP);
		break;
	}
	put_page(page);
	return false;
}

int tn_poll(struct napi_struct *napi, int budget)
{
	struct tn_queue *queue = container_of(napi, struct tn_queue, napi);
	struct bpf_prog *prog = READ_ONCE(queue->dev->prog);
	bool redirected = false;
	struct tn_frame *frame;
	int done = 0;

	while (done < budget) {
		frame = tn_queue_pop(queue);
		if (!frame)
			break;
		if (prog)
			redirected |= tn_run_xdp(queue, frame, prog);
		else
			tn_to_stack(queue, frame, frame->data, frame->len, 0);
		kfree(frame);
		done++;
	}
	if (redirected)
		xdp_do_flush();
	if (done < budget)
		napi_complete_done(napi, done);
	return done;
}
