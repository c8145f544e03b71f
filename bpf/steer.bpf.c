// SPDX-License-Identifier: MIT
/*
 * Steers one UDP port's packets into AF_XDP sockets and leaves everything else to the kernel.
 *
 * Taken: unfragmented IPv4/UDP to steer_config's address and port, in Ethernet frames to its MAC with at most two VLAN
 * tags, when the receive queue has a socket; and probes behind a PTP header, over UDP or over Ethernet. Such a frame gets a
 * struct steer_meta in front of it. One peer can be left to the kernel all the same, for a session that is served there
 * (steer_kernel_peer). Everything else is XDP_PASS with no byte changed, whatever it looks like: a probe must
 * never cost somebody their SSH session.
 *
 * Two programs: one for any interface, and one bound to a device, which can ask its driver for the card's receive stamp.
 * Only that one takes PTP frames that the card stamps. Cards that stamp nothing else keep the stamp in a register until
 * the driver builds an skb from the frame: where the driver cannot be asked, such a frame must reach the kernel.
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

/*
 * The card's receive stamp, Documentation/networking/xdp-rx-metadata.rst. Weak: a kernel before 6.3 does not have it, and
 * the program that calls it is then not loaded.
 */
extern int bpf_xdp_metadata_rx_timestamp(const struct xdp_md *ctx, __u64 *timestamp) __ksym __weak;

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

/* The peer whose packets are left to the kernel. An array of one: no more than one session stands at a time. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct steer_peer);
} steer_kernel_peer SEC(".maps");

/* The look-up in an array is inlined by the verifier: a load and a comparison. */
static __always_inline bool is_left_to_kernel(__be32 address, __be16 port)
{
	__u32 zero = 0;
	const struct steer_peer *peer = bpf_map_lookup_elem(&steer_kernel_peer, &zero);

	return peer && peer->port && peer->port == port && peer->address == address;
}

/*
 * Broadcast, multicast and what a promiscuous interface sees of others' is the kernel's: an answer along the same frame
 * would carry somebody else's address as its source.
 */
static __always_inline int to_this_interface(const struct ethhdr *ethernet)
{
	/* Two bytes at a time, which either is aligned for: an Ethernet header by the kernel (NET_IP_ALIGN), the setting in its struct. */
	const __u16 *destination = (const void *)ethernet->h_dest;
	const volatile __u16 *mac = (const volatile void *)steer_config.mac;

	_Static_assert(__builtin_offsetof(struct steer_config, mac) % sizeof(*mac) == 0, "aligned");
	return destination[0] == mac[0] && destination[1] == mac[1] && destination[2] == mac[2];
}

enum verdict {
	OURS,
	FOREIGN,
	MALFORMED,
};

/* What stands behind Ethernet's or UDP's header of a PTP message: common header, and the start of the message's own. */
struct ptp_sync {
	__u8 type;
	__u8 version;
	__be16 length;
	__u8 domain;
	__u8 minor;
	__be16 flags;
	__u8 correction[8];
	__u8 reserved[4];
	__u8 clock[8];
	__be16 port;
	__be16 sequence;
	__u8 control;
	__s8 interval;
	__u8 origin[10];
};

/* Whether what begins at `ptp` is a probe's, and may be taken. */
static __always_inline enum verdict judge_ptp(const struct ptp_sync *ptp, const void *data_end, bool bound)
{
	const char magic[] = STEER_PTP_MAGIC;
	__be32 address;

	_Static_assert(sizeof(*ptp) == STEER_PTP_HEADER_BYTES, "the layout has no gaps");
	if ((const void *)(ptp + 1) > data_end)
		return FOREIGN;
	if (ptp->type != 0 || ptp->domain != STEER_PTP_DOMAIN)
		return FOREIGN;
#pragma unroll
	for (int i = 0; i < STEER_PTP_MAGIC_BYTES; i++) {
		if (ptp->clock[i] != (__u8)magic[i])
			return FOREIGN;
	}
	if (ptp->version != STEER_PTP_UNSTAMPED && !(bound && ptp->version == STEER_PTP_STAMPED))
		return FOREIGN;
	__builtin_memcpy(&address, &ptp->clock[STEER_PTP_MAGIC_BYTES], sizeof(address));
	return is_left_to_kernel(address, ptp->port) ? FOREIGN : OURS;
}

/* Looks at the headers only; changes nothing. */
static __always_inline enum verdict judge(struct xdp_md *ctx, bool bound)
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
	bool is_whole;
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
	if (protocol == bpf_htons(ETH_P_1588))
		return to_this_interface(ethernet) ? judge_ptp(cursor, data_end, bound) : FOREIGN;
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
	/* Verifier: 6.12's does not know that what was swapped has 16 bits; and clang, which does, leaves out a mask that it sees. */
	asm volatile("%0 &= 0xffff" : "+r"(packet_bytes));
	is_whole = cursor + packet_bytes <= data_end;
	/*
	 * Where it does not end in the first piece of the buffer, the tail of a long packet may lie in further ones: the kernel is
	 * asked only then. The bytes before the packet are counted, so that no difference of pointers is needed.
	 */
	if (packet_bytes < header_bytes ||
	    (!is_whole && (__u64)link_bytes + packet_bytes > bpf_xdp_get_buff_len(ctx)))
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
	if (!to_this_interface(ethernet))
		return FOREIGN;
	/* An AF_XDP socket without XDP_USE_SG drops what lies in more than one piece; the kernel does not. */
	if (!is_whole)
		return FOREIGN;
	if (udp->dest == steer_config.port)
		return is_left_to_kernel(ip->saddr, udp->source) ? FOREIGN : OURS;
	if (udp->dest == bpf_htons(STEER_PTP_PORT))
		return judge_ptp((void *)(udp + 1), data_end, bound);
	return FOREIGN;
}

/* The card's stamp of this frame, 0 where it gives none. */
static __always_inline __u64 card_stamp(struct xdp_md *ctx, struct steer_counters *counters)
{
	__u64 stamp = 0;
	int answer = bpf_xdp_metadata_rx_timestamp(ctx, &stamp);

	if (answer)
		stamp = 0;
	if (!stamp) {
		counters->unstamped++;
		counters->stamp_error = -answer;
	}
	return stamp;
}

/*
 * Whether this frame gets a record. Reading the clock and writing in front of the frame is a tenth of a ping's round trip over
 * veth: where only the statistics of a stage come of it, a sample is enough. The driver's answer is for each frame.
 */
static __always_inline bool wants_record(struct steer_counters *counters, bool bound)
{
	if (bound)
		return true;
	if (counters->until_record) {
		counters->until_record--;
		return false;
	}
	/* By chance, one of so many on average: what comes in a fixed order, a ping and its dummies, must not fall in step with it. */
	counters->until_record = bpf_get_prandom_u32() % (2 * steer_config.record_every - 1);
	return true;
}

/*
 * Redirects, and writes the record where there is to be one; XDP_PASS, with the frame as it was, where the queue has no socket:
 * first, as a record whose frame goes to the kernel would stay in the buffer and be taken for that of a later frame.
 */
static __always_inline int redirect(struct xdp_md *ctx, struct steer_counters *counters, bool bound)
{
	struct steer_meta *meta;
	__u64 stamp;

	/* The two lowest bits of the flags are what it returns where the queue has no socket. */
	if (bpf_redirect_map(&steer_sockets, ctx->rx_queue_index, XDP_PASS) != XDP_REDIRECT)
		return XDP_PASS;
	if (!wants_record(counters, bound))
		return XDP_REDIRECT;
	stamp = bound ? card_stamp(ctx, counters) : 0;
	/* A driver without metadata area says no: its frames go without a record, which the process takes for none. */
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(*meta)))
		return XDP_REDIRECT;
	/* Verifier: adjusting makes every pointer into the packet invalid; they are loaded and compared anew. */
	meta = (void *)(long)ctx->data_meta;
	if ((void *)(meta + 1) > (void *)(long)ctx->data)
		return XDP_REDIRECT;
	meta->hardware_ns = stamp;
	meta->hook_tai_ns = bpf_ktime_get_tai_ns();
	meta->rx_queue = ctx->rx_queue_index;
	meta->magic = STEER_MAGIC;
	return XDP_REDIRECT;
}

static __always_inline int steer(struct xdp_md *ctx, bool bound)
{
	__u32 zero = 0;
	struct steer_counters *counters = bpf_map_lookup_elem(&steer_counts, &zero);
	enum verdict verdict;
	int action;

	/* Verifier: a looked-up value may be NULL until compared. It never is: the map has an entry 0. */
	if (!counters)
		return XDP_PASS;
	counters->seen++;

	verdict = judge(ctx, bound);
	action = verdict == OURS ? redirect(ctx, counters, bound) : XDP_PASS;

	if (action == XDP_REDIRECT)
		counters->redirected++;
	else
		counters->passed++;
	if (verdict == MALFORMED)
		counters->malformed++;
	return action;
}

/*
 * "frags": the program may be attached where packets come in several pieces (a large MTU, a veth with segmentation
 * offload), which would otherwise be refused or be switched off for everybody's traffic. The headers that it reads lie
 * in the first piece.
 */
SEC("xdp.frags")
int xdprobe_steer(struct xdp_md *ctx)
{
	return steer(ctx, false);
}

/* Loaded for one device (BPF_F_XDP_DEV_BOUND_ONLY): not for generic mode, where nobody can ask the driver. */
SEC("?xdp.frags")
int xdprobe_stamp(struct xdp_md *ctx)
{
	return steer(ctx, true);
}

/* bpf_ktime_get_tai_ns() and others are for programs under a licence compatible with the GPL; this says both. */
char _license[] SEC("license") = "Dual MIT/GPL";
