// SPDX-License-Identifier: GPL-2.0
/* The module, its parameters, and its two network devices. */
#include <linux/bpf.h>
#include <linux/etherdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/workqueue.h>
#include <net/xdp.h>

#include "testnic.h"

struct tn_options tn_options = {
	.wire_delay_ns = 10000,
	.queues = 1,
};

static char *filters = "all";
static char *kfunc = "ok";
static char *phc_read = "cross";

module_param_named(wire_delay_ns, tn_options.wire_delay_ns, ulong, 0444);
MODULE_PARM_DESC(wire_delay_ns, "from transmit stamp to receive stamp");
module_param_named(queues, tn_options.queues, uint, 0444);
MODULE_PARM_DESC(queues, "receive and transmit queues of each device");
module_param_array_named(offset_ns, tn_options.offset_ns, long, NULL, 0444);
MODULE_PARM_DESC(offset_ns, "clock of each device - CLOCK_REALTIME, at load");
module_param_array_named(drift_ppb, tn_options.drift_ppb, int, NULL, 0444);
MODULE_PARM_DESC(drift_ppb, "how much too fast each device's clock runs");
module_param(filters, charp, 0444);
MODULE_PARM_DESC(filters, "all, or ptp-only: PTPv2 events, one at a time");
module_param(kfunc, charp, 0444);
MODULE_PARM_DESC(kfunc, "RX timestamp kfunc: ok, absent, enodata, zero");
module_param(phc_read, charp, 0444);
MODULE_PARM_DESC(phc_read, "best way to read a clock: cross, extended, basic");
module_param_named(tx_refused, tn_options.tx_refused, uint, 0444);
MODULE_PARM_DESC(tx_refused, "transmissions refused with NETDEV_TX_BUSY, per mille");
module_param_named(tx_lost, tn_options.tx_lost, uint, 0444);
MODULE_PARM_DESC(tx_lost, "TX stamps that never come, per mille");
module_param_named(tx_late_ns, tn_options.tx_late_ns, ulong, 0444);
MODULE_PARM_DESC(tx_late_ns, "from the frame's leaving to its stamp's coming");
module_param_named(tx_reorder, tn_options.tx_reorder, bool, 0444);
MODULE_PARM_DESC(tx_reorder, "the TX stamps of every two frames swap places");
module_param_named(tx_duplicate, tn_options.tx_duplicate, bool, 0444);
MODULE_PARM_DESC(tx_duplicate, "every TX stamp comes twice");
module_param_named(tx_one_slot, tn_options.tx_one_slot, bool, 0444);
MODULE_PARM_DESC(tx_one_slot, "no TX stamp while another one is to come");
module_param_named(tx_wild, tn_options.tx_wild, uint, 0444);
MODULE_PARM_DESC(tx_wild, "TX stamps that are two hours off, per mille");
module_param_named(rx_lost, tn_options.rx_lost, uint, 0444);
MODULE_PARM_DESC(rx_lost, "received frames without their stamp, per mille");
module_param_named(rx_wild, tn_options.rx_wild, uint, 0444);
MODULE_PARM_DESC(rx_wild, "RX stamps that are two hours off, per mille");
module_param_named(lists_all, tn_options.lists_all, bool, 0444);
MODULE_PARM_DESC(lists_all, "list the filter all, also where it is refused");
module_param_named(reset_on_xdp, tn_options.reset_on_xdp, bool, 0444);
MODULE_PARM_DESC(reset_on_xdp, "attaching XDP, and detaching it, switches stamping off");
module_param_named(carrier_down_ms, tn_options.carrier_down_ms, uint, 0444);
MODULE_PARM_DESC(carrier_down_ms, "attaching XDP takes the link down so long");
module_param_named(rx_usecs, tn_options.rx_usecs, uint, 0444);
MODULE_PARM_DESC(rx_usecs, "interrupt coalescing that is told, but not done");

static const char * const tn_filters_names[] = {
	[TN_FILTERS_ALL] = "all",
	[TN_FILTERS_PTP_ONLY] = "ptp-only",
};

static const char * const tn_kfunc_names[] = {
	[TN_KFUNC_OK] = "ok",
	[TN_KFUNC_ABSENT] = "absent",
	[TN_KFUNC_ENODATA] = "enodata",
	[TN_KFUNC_ZERO] = "zero",
};

static const char * const tn_phc_read_names[] = {
	[TN_PHC_CROSS] = "cross",
	[TN_PHC_EXTENDED] = "extended",
	[TN_PHC_BASIC] = "basic",
};

static struct tn_dev *tn_devs[2];

/* The link is down at both ends, as a link is, until this has run. */
static void tn_link_up(struct work_struct *work)
{
	netif_carrier_on(tn_devs[0]->netdev);
	netif_carrier_on(tn_devs[1]->netdev);
}

static DECLARE_DELAYED_WORK(tn_link_work, tn_link_up);

static void tn_link_down(void)
{
	netif_carrier_off(tn_devs[0]->netdev);
	netif_carrier_off(tn_devs[1]->netdev);
	mod_delayed_work(system_wq, &tn_link_work,
			 msecs_to_jiffies(tn_options.carrier_down_ms));
}

static netdev_tx_t tn_start_xmit(struct sk_buff *skb, struct net_device *netdev)
{
	struct tn_dev *dev = netdev_priv(netdev);
	struct tn_frame *frame;
	bool refused, stamp;
	u64 mono;

	spin_lock_bh(&dev->tx_lock);
	refused = tn_share_hits(&dev->tx_refused, tn_options.tx_refused);
	spin_unlock_bh(&dev->tx_lock);
	if (refused) {
		/* As without room in a ring: the caller keeps the frame. */
		tn_count(dev, TN_TX_REFUSED);
		return NETDEV_TX_BUSY;
	}
	frame = tn_frame_alloc(skb->len);
	if (!frame || skb_copy_bits(skb, 0, frame->data, skb->len)) {
		kfree(frame);
		netdev->stats.tx_dropped++;
		dev_kfree_skb_any(skb);
		return NETDEV_TX_OK;
	}
	stamp = tn_stamp_tx_wanted(dev, skb);
	if (stamp)
		skb_shinfo(skb)->tx_flags |= SKBTX_IN_PROGRESS;
	skb_tx_timestamp(skb);
	mono = tn_wire_send(dev->peer, frame);
	tn_count(dev, TN_TX_FRAMES);
	if (stamp)
		tn_stamp_tx(dev, skb, mono);
	else
		dev_consume_skb_any(skb);
	return NETDEV_TX_OK;
}

static int tn_open(struct net_device *netdev)
{
	struct tn_dev *dev = netdev_priv(netdev);
	struct tn_queue *queue;
	unsigned int i;
	int err;

	for (i = 0; i < tn_options.queues; i++) {
		queue = &dev->queue[i];
		err = xdp_rxq_info_reg(&queue->xdp_rxq, netdev, i,
				       queue->napi.napi_id);
		if (err)
			goto undo;
		err = xdp_rxq_info_reg_mem_model(&queue->xdp_rxq,
						 MEM_TYPE_PAGE_ORDER0, NULL);
		if (err) {
			xdp_rxq_info_unreg(&queue->xdp_rxq);
			goto undo;
		}
	}
	for (i = 0; i < tn_options.queues; i++) {
		napi_enable(&dev->queue[i].napi);
		netif_queue_set_napi(netdev, i, NETDEV_QUEUE_TYPE_RX,
				     &dev->queue[i].napi);
	}
	if (!delayed_work_pending(&tn_link_work))
		netif_carrier_on(netdev);
	netif_tx_start_all_queues(netdev);
	return 0;

undo:
	while (i--)
		xdp_rxq_info_unreg(&dev->queue[i].xdp_rxq);
	return err;
}

static int tn_stop(struct net_device *netdev)
{
	struct tn_dev *dev = netdev_priv(netdev);
	unsigned int i;

	netif_tx_disable(netdev);
	netif_carrier_off(netdev);
	tn_stamp_stop(dev);
	tn_wire_stop(dev);
	for (i = 0; i < tn_options.queues; i++) {
		netif_queue_set_napi(netdev, i, NETDEV_QUEUE_TYPE_RX, NULL);
		napi_disable(&dev->queue[i].napi);
		xdp_rxq_info_unreg(&dev->queue[i].xdp_rxq);
	}
	return 0;
}

static int tn_bpf(struct net_device *netdev, struct netdev_bpf *bpf)
{
	struct tn_dev *dev = netdev_priv(netdev);
	struct bpf_prog *old;

	if (bpf->command != XDP_SETUP_PROG)
		return -EOPNOTSUPP;
	old = xchg(&dev->prog, bpf->prog);
	if (old)
		bpf_prog_put(old);
	if (!old != !bpf->prog && tn_options.reset_on_xdp)
		tn_stamp_reset(dev);
	if (!old && bpf->prog && tn_options.carrier_down_ms)
		tn_link_down();
	return 0;
}

static const struct net_device_ops tn_netdev_ops = {
	.ndo_open = tn_open,
	.ndo_stop = tn_stop,
	.ndo_start_xmit = tn_start_xmit,
	.ndo_bpf = tn_bpf,
	.ndo_hwtstamp_get = tn_hwtstamp_get,
	.ndo_hwtstamp_set = tn_hwtstamp_set,
	.ndo_set_mac_address = eth_mac_addr,
	.ndo_validate_addr = eth_validate_addr,
};

static int tn_create(unsigned int index)
{
	const u8 address[ETH_ALEN] = { 0x02, 0, 0, 0, 0x66, index + 1 };
	struct net_device *netdev;
	struct tn_dev *dev;
	unsigned int i;
	int err;

	netdev = alloc_etherdev_mqs(sizeof(*dev), tn_options.queues,
				    tn_options.queues);
	if (!netdev)
		return -ENOMEM;
	dev = netdev_priv(netdev);
	dev->netdev = netdev;
	tn_wire_init(dev);
	tn_stamp_init(dev);
	for (i = 0; i < tn_options.queues; i++) {
		dev->queue[i].dev = dev;
		dev->queue[i].index = i;
		INIT_LIST_HEAD(&dev->queue[i].frames);
		netif_napi_add(netdev, &dev->queue[i].napi, tn_poll);
	}
	snprintf(netdev->name, sizeof(netdev->name), "tn%u", index);
	eth_hw_addr_set(netdev, address);
	netdev->netdev_ops = &tn_netdev_ops;
	netdev->ethtool_ops = &tn_ethtool_ops;
	netdev->xdp_metadata_ops = tn_metadata_ops();
	netdev->max_mtu = TN_MAX_MTU;
	xdp_set_features_flag(netdev, NETDEV_XDP_ACT_BASIC |
				      NETDEV_XDP_ACT_REDIRECT);

	err = tn_clock_register(&dev->clock, index);
	if (err) {
		free_netdev(netdev);
		return err;
	}
	tn_devs[index] = dev;
	return 0;
}

static void tn_destroy(unsigned int index)
{
	tn_clock_unregister(&tn_devs[index]->clock);
	free_netdev(tn_devs[index]->netdev);
}

static int tn_parse(void)
{
	int index;

	if (!tn_options.queues || tn_options.queues > TN_MAX_QUEUES)
		return -EINVAL;
	index = match_string(tn_filters_names, ARRAY_SIZE(tn_filters_names),
			     filters);
	if (index < 0)
		return index;
	tn_options.filters = index;
	index = match_string(tn_kfunc_names, ARRAY_SIZE(tn_kfunc_names), kfunc);
	if (index < 0)
		return index;
	tn_options.kfunc = index;
	index = match_string(tn_phc_read_names, ARRAY_SIZE(tn_phc_read_names),
			     phc_read);
	if (index < 0)
		return index;
	tn_options.phc_read = index;
	return 0;
}

static int __init tn_init(void)
{
	int err;

	err = tn_parse();
	if (err)
		return err;
	err = tn_create(0);
	if (err)
		return err;
	err = tn_create(1);
	if (err)
		goto destroy_0;
	tn_devs[0]->peer = tn_devs[1];
	tn_devs[1]->peer = tn_devs[0];
	err = register_netdev(tn_devs[0]->netdev);
	if (err)
		goto destroy_1;
	err = register_netdev(tn_devs[1]->netdev);
	if (err)
		goto unregister_0;
	return 0;

unregister_0:
	unregister_netdev(tn_devs[0]->netdev);
destroy_1:
	tn_destroy(1);
destroy_0:
	tn_destroy(0);
	return err;
}

static void __exit tn_exit(void)
{
	/* Both are stopped before either is freed: each sends to the other. */
	unregister_netdev(tn_devs[0]->netdev);
	unregister_netdev(tn_devs[1]->netdev);
	cancel_delayed_work_sync(&tn_link_work);
	tn_wire_stop(tn_devs[0]);
	tn_wire_stop(tn_devs[1]);
	tn_destroy(1);
	tn_destroy(0);
}

module_init(tn_init);
module_exit(tn_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Two NICs with exact clocks on a wire of exact delay, for tests");
