// SPDX-License-Identifier: MIT
/*
 * Steers one UDP port's packets into AF_XDP sockets and leaves everything else to the kernel.
 *
 * Taken: unfragmented IPv4/UDP to steer_config's address and port, in Ethernet frames to its MAC with at most two VLAN
 * tags, when the receive queue has a socket. Such a frame gets a struct steer_meta in front of it. Everything else is XDP_PASS
 * with no byte changed, whatever it looks like: a probe must never cost somebody their SSH session.
 *
 * It does not check checksums: the process does.
 */
#include <stdbool.h>

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/udp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "steer.h"

#define MAX_VLAN_TAGS 2

/* include/uapi/linux/ip.h leaves these to libc: "more fragments", and the offset in units of 8 bytes. */
#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff

/* IEEE 802.1Q: what follows the EtherType 0x8100 or 0x88a8. linux/if_vlan.h of the UAPI does not have it. */
struct vlan_tag {
	__be16 control;
	__be16 next_protocol;
};

/* volatile: the values are set in the loaded image, so the compiler must not take the zeros here for constants. */
const volatile struct steer_config steer_config = {};

/* Never read. It puts the type into BTF, from where the Rust side's layout check has it. */
const volatile struct steer_meta steer_meta_layout = {};

/* Receive queue → AF_XDP socket. The size is set before loading to the highest queue + 1. */
struct {
	__uint(type, BPF_MAP_TYPE_XSKMAP);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} steer_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_counters);
} steer_counts SEC(".maps");

/*
 * Broadcast, multicast and what a promiscuous interface sees of others' is the kernel's: an answer along the same frame
 * would carry somebody else's address as its source.
 */
static __always_inline int to_this_interface(const struct ethhdr *ethernet)
{
#pragma unroll
	for (int i = 0; i < ETH_ALEN; i++) {
		if (ethernet->h_dest[i] != steer_config.mac[i])
			return 0;
	}
	return 1;
}

enum verdict {
	OURS,
	FOREIGN,
	MALFORMED,
};

/* Looks at the headers only; changes nothing. */
static __always_inline enum verdict judge(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	void *data_end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;
	struct vlan_tag *tag;
	struct iphdr *ip;
	struct udphdr *udp;
	__be16 protocol;
	__u32 header_bytes;
	__u32 packet_bytes;
	__u32 udp_bytes;
	__u32 link_bytes = sizeof(*ethernet);
	void *cursor;

	/* Verifier: a packet pointer may be read only up to where it was compared with data_end. */
	if ((void *)(ethernet + 1) > data_end)
		return MALFORMED;
	protocol = ethernet->h_proto;
	cursor = ethernet + 1;

	/* Unrolled: with a constant number of turns the verifier sees straight code with a fixed offset in each. */
#pragma unroll
	for (int i = 0; i < MAX_VLAN_TAGS; i++) {
		if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
			break;
		tag = cursor;
		if ((void *)(tag + 1) > data_end)
			return MALFORMED;
		protocol = tag->next_protocol;
		cursor = tag + 1;
		link_bytes += sizeof(*tag);
	}
	if (protocol != bpf_htons(ETH_P_IP))
		return FOREIGN;

	ip = cursor;
	if ((void *)(ip + 1) > data_end)
		return MALFORMED;
	header_bytes = ip->ihl * 4;
	if (ip->version != 4 || header_bytes < sizeof(*ip))
		return MALFORMED;
	/* Before the lengths: of other protocols they are none of our business (BIG TCP has a total length of 0). */
	if (ip->protocol != IPPROTO_UDP || ip->daddr != steer_config.address)
		return FOREIGN;
	packet_bytes = bpf_ntohs(ip->tot_len);
	/*
	 * The whole buffer, not data_end: the tail of a long packet may lie in further fragments of the buffer. The bytes
	 * before the packet are counted, so that no difference of pointers is needed.
	 */
	if (packet_bytes < header_bytes || (__u64)link_bytes + packet_bytes > bpf_xdp_get_buff_len(ctx))
		return MALFORMED;
	/* A later fragment has no UDP header, and of a first one the rest is missing: the kernel puts them together. */
	if (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET))
		return FOREIGN;

	/* Verifier: header_bytes comes from a 4-bit field, so it is known to be at most 60 when it is added here. */
	udp = cursor + header_bytes;
	if (packet_bytes < header_bytes + sizeof(*udp) || (void *)(udp + 1) > data_end)
		return MALFORMED;
	udp_bytes = bpf_ntohs(udp->len);
	if (udp_bytes < sizeof(*udp) || udp_bytes > packet_bytes - header_bytes)
		return MALFORMED;
	if (udp->dest != steer_config.port || !to_this_interface(ethernet))
		return FOREIGN;
	/* An AF_XDP socket without XDP_USE_SG drops what lies in more than one piece; the kernel does not. */
	if (cursor + packet_bytes > data_end)
		return FOREIGN;
	return OURS;
}

/* Writes the record and redirects; XDP_PASS, with the frame as it was, where the queue has no socket. */
static __always_inline int redirect(struct xdp_md *ctx)
{
	struct steer_meta *meta;
	int action;
	/* A driver without metadata area says no: its frames go without a record, which the process takes for none. */
	bool has_record = !bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta));

	if (has_record) {
		/* Verifier: adjusting makes every pointer into the packet invalid; they are loaded and compared anew. */
		meta = (void *)(long)ctx->data_meta;
		if ((void *)(meta + 1) > (void *)(long)ctx->data)
			goto give_back;
		/* A later version asks the driver (bpf_xdp_metadata_rx_timestamp). */
		meta->hardware_ns = 0;
		meta->hook_tai_ns = bpf_ktime_get_tai_ns();
		meta->rx_queue = ctx->rx_queue_index;
		meta->magic = STEER_MAGIC;
	}

	/* The two lowest bits of the flags are what it returns where the queue has no socket. */
	action = bpf_redirect_map(&steer_sockets, ctx->rx_queue_index, XDP_PASS);
	if (action == XDP_REDIRECT)
		return action;

give_back:
	/* The kernel compares metadata when it joins packets (GRO), and others may take it for theirs. */
	if (has_record)
		bpf_xdp_adjust_meta(ctx, sizeof(*meta));
	return XDP_PASS;
}

/*
 * "frags": the program may be attached where packets come in several pieces (a large MTU, a veth with segmentation
 * offload), which would otherwise be refused or be switched off for everybody's traffic. The headers that it reads lie
 * in the first piece.
 */
SEC("xdp.frags")
int xdprobe_steer(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct steer_counters *counters = bpf_map_lookup_elem(&steer_counts, &zero);
	enum verdict verdict;
	int action;

	/* Verifier: a looked-up value may be NULL until compared. It never is: the map has an entry 0. */
	if (!counters)
		return XDP_PASS;
	counters->seen++;

	verdict = judge(ctx);
	action = verdict == OURS ? redirect(ctx) : XDP_PASS;

	if (action == XDP_REDIRECT)
		counters->redirected++;
	else
		counters->passed++;
	if (verdict == MALFORMED)
		counters->malformed++;
	return action;
}

/* bpf_ktime_get_tai_ns() and others are for programs under a licence compatible with the GPL; this says both. */
char _license[] SEC("license") = "Dual MIT/GPL";
