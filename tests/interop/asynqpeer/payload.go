package main

import "time"

// healthCheck has the fields of the payload with the types that a worker gives them (docs/protocol.md, section 2): whatever
// encoding/json refuses to put into it, a worker archives.
type healthCheck struct {
	MonitorID          string     `json:"monitor_id"`
	MonitorName        string     `json:"monitor_name"`
	MonitorType        string     `json:"monitor_type"`
	Interval           int        `json:"interval"`
	Timeout            int        `json:"timeout"`
	MaxRetries         int        `json:"max_retries"`
	RetryInterval      int        `json:"retry_interval"`
	ResendInterval     int        `json:"resend_interval"`
	Config             string     `json:"config"`
	Proxy              *proxy     `json:"proxy"`
	LastHeartbeat      *heartbeat `json:"last_heartbeat"`
	ScheduledAt        time.Time  `json:"scheduled_at"`
	IsUnderMaintenance bool       `json:"is_under_maintenance"`
	CheckCertExpiry    bool       `json:"check_cert_expiry"`
}

type proxy struct {
	ID       string `json:"id"`
	Protocol string `json:"protocol"`
	Host     string `json:"host"`
	Port     int    `json:"port"`
	Auth     bool   `json:"auth"`
	Username string `json:"username"`
	Password string `json:"password"`
}

type heartbeat struct {
	ID        string    `json:"id"`
	MonitorID string    `json:"monitor_id"`
	Status    int       `json:"status"`
	Msg       string    `json:"msg"`
	Ping      int       `json:"ping"`
	Duration  int       `json:"duration"`
	DownCount int       `json:"down_count"`
	Retries   int       `json:"retries"`
	Important bool      `json:"important"`
	Time      time.Time `json:"time"`
	EndTime   time.Time `json:"end_time"`
	Notified  bool      `json:"notified"`
}

// stale says whether a worker would drop the check without a result at this time.
func (c *healthCheck) stale(now time.Time) bool {
	return now.Sub(c.ScheduledAt) > time.Duration(c.Interval)*time.Second*3/2
}
