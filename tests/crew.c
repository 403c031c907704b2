/* Phases of a crew whose tasks read what others have written in the phase before: for ThreadSanitizer. */
#include "crew.h"

#include <stdio.h>

enum { CREWS = 3, ROUNDS = 200, TASKS = 512, SUMS = 64 };

static uint64_t sum[KF_CREW_MOST][SUMS];
static uint32_t written[TASKS];
static int64_t least;

static void write_all(void *job, uint32_t task, uint32_t worker)
{
    (void)worker;
    written[task] = *(const uint32_t *)job;
    if (task % 7 == 3)
        kf_least(&least, task);
    if (kf_seen(&least) < 3)
        abort();
}

static void read_all(void *job, uint32_t task, uint32_t worker)
{
    (void)job;
    sum[worker][task] += written[task * 31 % TASKS];
}

int main(void)
{
    uint64_t all = 0;
    for (int n = 0; n < CREWS; n++) {
        kf_crew *crew = kf_crew_new(2 + n);
        for (uint32_t round = 1; round <= ROUNDS; round++) {
            least = TASKS;
            kf_crew_gather(crew);
            kf_crew_do(crew, write_all, &round, TASKS);
            if (kf_seen(&least) != 3)
                return 2;
            kf_crew_do(crew, read_all, NULL, SUMS);
            if (round % 100 == 0)
                usleep(2 * KF_WATCH / 1000);    /* they sleep, and are woken */
        }
        kf_crew_free(crew);
    }
    for (int worker = 0; worker < KF_CREW_MOST; worker++)
        for (int k = 0; k < SUMS; k++)
            all += sum[worker][k];
    printf("%llu\n", (unsigned long long)all);
    return 0;
}
