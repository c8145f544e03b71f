// SPDX-License-Identifier: GPL-2.0
/*
 * The clocks: a line through a point of CLOCK_MONOTONIC, with a slope.
 *
 * CLOCK_MONOTONIC and CLOCK_REALTIME differ by a constant as long as nobody
 * steps the latter, so that a clock's true offset from the system's is known at
 * any time: offset_ns + drift_ppb * (seconds since the module was loaded).
 */
#include <linux/math64.h>
#include <linux/timekeeping.h>

#include "testnic.h"

static s64 tn_scale(s64 value, s64 mul, u64 div)
{
	u64 result = mul_u64_u64_div_u64(abs(value), abs(mul), div);

	return (value < 0) == (mul < 0) ? result : -(s64)result;
}

static u64 tn_clock_at_locked(const struct tn_clock *clock, u64 mono)
{
	s64 elapsed = mono - clock->mono;

	return clock->phc + elapsed +
	       tn_scale(elapsed, clock->drift_ppb, NSEC_PER_SEC) +
	       tn_scale(elapsed, clock->scaled_ppm, 65536ULL * 1000000);
}

/* What the clock shows at an instant of CLOCK_MONOTONIC, now or soon. */
u64 tn_clock_at(struct tn_clock *clock, u64 mono)
{
	unsigned long flags;
	u64 phc;

	spin_lock_irqsave(&clock->lock, flags);
	phc = tn_clock_at_locked(clock, mono);
	spin_unlock_irqrestore(&clock->lock, flags);
	return phc;
}

static struct tn_clock *tn_clock_of(struct ptp_clock_info *info)
{
	return container_of(info, struct tn_clock, info);
}

static int tn_clock_adjfine(struct ptp_clock_info *info, long scaled_ppm)
{
	struct tn_clock *clock = tn_clock_of(info);
	unsigned long flags;
	u64 now;

	spin_lock_irqsave(&clock->lock, flags);
	now = ktime_get_ns();
	clock->phc = tn_clock_at_locked(clock, now);
	clock->mono = now;
	clock->scaled_ppm = scaled_ppm;
	spin_unlock_irqrestore(&clock->lock, flags);
	return 0;
}

static int tn_clock_adjtime(struct ptp_clock_info *info, s64 delta)
{
	struct tn_clock *clock = tn_clock_of(info);
	unsigned long flags;

	spin_lock_irqsave(&clock->lock, flags);
	clock->phc += delta;
	spin_unlock_irqrestore(&clock->lock, flags);
	return 0;
}

static int tn_clock_settime64(struct ptp_clock_info *info,
			      const struct timespec64 *ts)
{
	struct tn_clock *clock = tn_clock_of(info);
	unsigned long flags;

	spin_lock_irqsave(&clock->lock, flags);
	clock->phc = timespec64_to_ns(ts);
	clock->mono = ktime_get_ns();
	spin_unlock_irqrestore(&clock->lock, flags);
	return 0;
}

static int tn_clock_gettimex64(struct ptp_clock_info *info,
			       struct timespec64 *ts,
			       struct ptp_system_timestamp *sts)
{
	u64 now;

	ptp_read_system_prets(sts);
	now = ktime_get_ns();
	ptp_read_system_postts(sts);
	*ts = ns_to_timespec64(tn_clock_at(tn_clock_of(info), now));
	return 0;
}

static int tn_clock_gettime64(struct ptp_clock_info *info,
			      struct timespec64 *ts)
{
	*ts = ns_to_timespec64(tn_clock_at(tn_clock_of(info), ktime_get_ns()));
	return 0;
}

/* Exact: one reading of the system's counter makes all three times. */
static int tn_clock_getcrosststamp(struct ptp_clock_info *info,
				   struct system_device_crosststamp *cross)
{
	struct system_time_snapshot now;
	ktime_t mono;

	ktime_get_snapshot(&now);
	mono = ktime_sub(now.real, ktime_mono_to_real(0));
	cross->device = ns_to_ktime(tn_clock_at(tn_clock_of(info), mono));
	cross->sys_realtime = now.real;
	cross->sys_monoraw = now.raw;
	return 0;
}

static int tn_clock_enable(struct ptp_clock_info *info,
			   struct ptp_clock_request *request, int on)
{
	return -EOPNOTSUPP;
}

int tn_clock_register(struct tn_clock *clock, unsigned int index)
{
	struct ptp_clock_info *info = &clock->info;

	spin_lock_init(&clock->lock);
	clock->mono = ktime_get_ns();
	clock->epoch = ktime_to_ns(ktime_mono_to_real(clock->mono));
	clock->phc = clock->epoch + tn_options.offset_ns[index];
	clock->drift_ppb = tn_options.drift_ppb[index];

	info->owner = THIS_MODULE;
	snprintf(info->name, sizeof(info->name), "testnic%u", index);
	info->max_adj = 1000000;
	info->adjfine = tn_clock_adjfine;
	info->adjtime = tn_clock_adjtime;
	info->settime64 = tn_clock_settime64;
	info->enable = tn_clock_enable;
	if (tn_options.phc_read == TN_PHC_CROSS)
		info->getcrosststamp = tn_clock_getcrosststamp;
	if (tn_options.phc_read == TN_PHC_BASIC)
		info->gettime64 = tn_clock_gettime64;
	else
		info->gettimex64 = tn_clock_gettimex64;

	clock->ptp = ptp_clock_register(info, NULL);
	if (!clock->ptp)
		return -EOPNOTSUPP;
	return PTR_ERR_OR_ZERO(clock->ptp);
}

void tn_clock_unregister(struct tn_clock *clock)
{
	ptp_clock_unregister(clock->ptp);
}
