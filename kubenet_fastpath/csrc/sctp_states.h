/* SCTP association states and what a chunk does to them (Linux, sctp_conntracks). */
#ifndef KF_SCTP_STATES_H
#define KF_SCTP_STATES_H

#include <stdint.h>

enum kf_sctp_state { KF_S_NO, KF_S_CL, KF_S_CW, KF_S_CE, KF_S_ES, KF_S_SS, KF_S_SR, KF_S_SA, KF_S_HS, KF_S_IV };

#define NO KF_S_NO
#define CL KF_S_CL
#define CW KF_S_CW
#define CE KF_S_CE
#define ES KF_S_ES
#define SS KF_S_SS
#define SR KF_S_SR
#define SA KF_S_SA
#define HS KF_S_HS
#define IV KF_S_IV

/* [direction][kind of chunk][state] */
static const uint8_t kf_sctp_next[2][11][9] = {
    {
        /*                      NO  CL  CW  CE  ES  SS  SR  SA  HS */
        /* init              */ { CL, CL, CW, CE, ES, CL, CL, SA, CW },
        /* init ack          */ { CL, CL, CW, CE, ES, SS, SR, SA, CL },
        /* abort             */ { CL, CL, CL, CL, CL, CL, CL, CL, CL },
        /* shutdown          */ { CL, CL, CW, CE, SS, SS, SR, SA, CL },
        /* shutdown ack      */ { SA, CL, CW, CE, ES, SA, SA, SA, SA },
        /* error             */ { CL, CL, CW, CE, ES, SS, SR, SA, CL },
        /* cookie echo       */ { CL, CL, CE, CE, ES, SS, SR, SA, CL },
        /* cookie ack        */ { CL, CL, CW, ES, ES, SS, SR, SA, CL },
        /* shutdown complete */ { CL, CL, CW, CE, ES, SS, SR, CL, CL },
        /* heartbeat         */ { HS, CL, CW, CE, ES, SS, SR, SA, HS },
        /* heartbeat ack     */ { CL, CL, CW, CE, ES, SS, SR, SA, HS },
    },
    {
        /* init              */ { IV, CL, CW, CE, ES, SS, SR, SA, IV },
        /* init ack          */ { IV, CW, CW, CE, ES, SS, SR, SA, IV },
        /* abort             */ { IV, CL, CL, CL, CL, CL, CL, CL, IV },
        /* shutdown          */ { IV, CL, CW, CE, SR, SS, SR, SA, IV },
        /* shutdown ack      */ { IV, CL, CW, CE, ES, SA, SA, SA, IV },
        /* error             */ { IV, CL, CW, CL, ES, SS, SR, SA, IV },
        /* cookie echo       */ { IV, CL, CE, CE, ES, SS, SR, SA, IV },
        /* cookie ack        */ { IV, CL, CW, ES, ES, SS, SR, SA, IV },
        /* shutdown complete */ { IV, CL, CW, CE, ES, SS, SR, CL, IV },
        /* heartbeat         */ { IV, CL, CW, CE, ES, SS, SR, SA, HS },
        /* heartbeat ack     */ { IV, CL, CW, CE, ES, SS, SR, SA, ES },
    },
};

#undef NO
#undef CL
#undef CW
#undef CE
#undef ES
#undef SS
#undef SR
#undef SA
#undef HS
#undef IV

#endif
