/* TCP connection states and what a segment does to them (Linux, tcp_conntracks). */
#ifndef KF_TCP_STATES_H
#define KF_TCP_STATES_H

#include <stdint.h>

enum kf_tcp_state { KF_NO, KF_SS, KF_SR, KF_ES, KF_FW, KF_CW, KF_LA, KF_TW, KF_CL, KF_S2, KF_IV, KF_IG };

/* [direction][kind of segment: syn, syn+ack, fin, ack, rst, none][state] */
static const uint8_t kf_tcp_next[2][6][10] = {
    {
        /*            NO     SS     SR     ES     FW     CW     LA     TW     CL     S2 */
        /* syn  */ { KF_SS, KF_SS, KF_IG, KF_IG, KF_IG, KF_IG, KF_IG, KF_SS, KF_SS, KF_S2 },
        /* s+a  */ { KF_IV, KF_IV, KF_SR, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_SR },
        /* fin  */ { KF_IV, KF_IV, KF_FW, KF_FW, KF_LA, KF_LA, KF_LA, KF_TW, KF_CL, KF_IV },
        /* ack  */ { KF_ES, KF_IV, KF_ES, KF_ES, KF_CW, KF_CW, KF_TW, KF_TW, KF_CL, KF_IV },
        /* rst  */ { KF_IV, KF_CL, KF_CL, KF_CL, KF_CL, KF_CL, KF_CL, KF_CL, KF_CL, KF_CL },
        /* none */ { KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV },
    },
    {
        /* syn  */ { KF_IV, KF_S2, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_SS, KF_IV, KF_S2 },
        /* s+a  */ { KF_IV, KF_SR, KF_IG, KF_IG, KF_IG, KF_IG, KF_IG, KF_IG, KF_IG, KF_SR },
        /* fin  */ { KF_IV, KF_IV, KF_FW, KF_FW, KF_LA, KF_LA, KF_LA, KF_TW, KF_CL, KF_IV },
        /* ack  */ { KF_IV, KF_IG, KF_SR, KF_ES, KF_CW, KF_CW, KF_TW, KF_TW, KF_CL, KF_IG },
        /* rst  */ { KF_IV, KF_CL, KF_CL, KF_CL, KF_CL, KF_CL, KF_CL, KF_CL, KF_CL, KF_CL },
        /* none */ { KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV, KF_IV },
    },
};

#endif
