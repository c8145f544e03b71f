// SPDX-License-Identifier: GPL-2.0
/* What ethtool may ask. */
#include <linux/ethtool.h>

#include "testnic.h"

static const char tn_names[TN_STATS][ETH_GSTRING_LEN] = {
	[TN_TX_FRAMES] = "tx_frames",
	[TN_TX_REFUSED] = "tx_refused",
	[TN_TX_STAMP_REQUESTED] = "tx_hwtstamp_requested",
	[TN_TX_STAMP_DELIVERED] = "tx_hwtstamp_delivered",
	[TN_TX_STAMP_LOST] = "tx_hwtstamp_lost",
	[TN_TX_STAMP_SKIPPED] = "tx_hwtstamp_skipped",
	[TN_RX_FRAMES] = "rx_frames",
	[TN_RX_STAMPED] = "rx_hwtstamp",
	[TN_RX_STAMP_MISSED] = "rx_hwtstamp_missed",
	[TN_RX_STAMP_CLEARED] = "rx_hwtstamp_cleared",
	[TN_RX_STAMP_READ_SKB] = "rx_hwtstamp_read_by_skb",
	[TN_RX_STAMP_READ_XDP] = "rx_hwtstamp_read_by_xdp",
	[TN_RX_LINK_DOWN] = "rx_link_down",
	[TN_RX_XDP_PASS] = "rx_xdp_pass",
	[TN_RX_XDP_REDIRECT] = "rx_xdp_redirect",
	[TN_RX_XDP_TX] = "rx_xdp_tx",
	[TN_RX_XDP_DROP] = "rx_xdp_drop",
	[TN_PTP_EVENTS_REDIRECTED] = "rx_ptp_events_redirected",
};

/* CLOCK_REALTIME in ns when the drift began; behind the counters. */
static const char tn_epoch[ETH_GSTRING_LEN] = "phc_epoch_ns";

static int tn_get_sset_count(struct net_device *netdev, int set)
{
	return set == ETH_SS_STATS ? TN_STATS + 1 : -EOPNOTSUPP;
}

static void tn_get_strings(struct net_device *netdev, u32 set, u8 *strings)
{
	if (set != ETH_SS_STATS)
		return;
	memcpy(strings, tn_names, sizeof(tn_names));
	memcpy(strings + sizeof(tn_names), tn_epoch, sizeof(tn_epoch));
}

static void tn_get_ethtool_stats(struct net_device *netdev,
				 struct ethtool_stats *stats, u64 *values)
{
	struct tn_dev *dev = netdev_priv(netdev);
	unsigned int i;

	for (i = 0; i < TN_STATS; i++)
		values[i] = atomic64_read(&dev->stat[i]);
	values[TN_STATS] = dev->clock.epoch;
}

static void tn_get_drvinfo(struct net_device *netdev,
			   struct ethtool_drvinfo *info)
{
	strscpy(info->driver, "testnic", sizeof(info->driver));
}

static void tn_get_channels(struct net_device *netdev,
			    struct ethtool_channels *channels)
{
	channels->max_combined = tn_options.queues;
	channels->combined_count = tn_options.queues;
}

static int tn_get_coalesce(struct net_device *netdev,
			   struct ethtool_coalesce *coalesce,
			   struct kernel_ethtool_coalesce *kernel,
			   struct netlink_ext_ack *extack)
{
	coalesce->rx_coalesce_usecs = tn_options.rx_usecs;
	return 0;
}

static int tn_get_ts_info(struct net_device *netdev,
			  struct kernel_ethtool_ts_info *info)
{
	struct tn_dev *dev = netdev_priv(netdev);

	info->so_timestamping = SOF_TIMESTAMPING_SOFTWARE_MASK |
				SOF_TIMESTAMPING_HARDWARE_MASK;
	info->phc_index = ptp_clock_index(dev->clock.ptp);
	info->tx_types = BIT(HWTSTAMP_TX_OFF) | BIT(HWTSTAMP_TX_ON);
	info->rx_filters = BIT(HWTSTAMP_FILTER_NONE);
	if (tn_options.filters == TN_FILTERS_ALL || tn_options.lists_all)
		info->rx_filters |= BIT(HWTSTAMP_FILTER_ALL);
	if (tn_options.filters == TN_FILTERS_PTP_ONLY)
		info->rx_filters |= BIT(HWTSTAMP_FILTER_PTP_V1_L4_SYNC) |
				    BIT(HWTSTAMP_FILTER_PTP_V1_L4_DELAY_REQ) |
				    BIT(HWTSTAMP_FILTER_PTP_V2_EVENT);
	return 0;
}

const struct ethtool_ops tn_ethtool_ops = {
	.supported_coalesce_params = ETHTOOL_COALESCE_RX_USECS,
	.get_drvinfo = tn_get_drvinfo,
	.get_link = ethtool_op_get_link,
	.get_channels = tn_get_channels,
	.get_coalesce = tn_get_coalesce,
	.get_ts_info = tn_get_ts_info,
	.get_sset_count = tn_get_sset_count,
	.get_strings = tn_get_strings,
	.get_ethtool_stats = tn_get_ethtool_stats,
};
