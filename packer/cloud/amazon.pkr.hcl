# AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY

source "amazon-ebs" "appliance" {
  # An AMI is of one region: the bounty counts no relay in Europe or North America.
  region        = "ap-southeast-1"
  instance_type = { amd64 = "t3.micro", arm64 = "t4g.micro" }[var.arch]
  ssh_username  = "admin"
  ami_name      = local.name

  # Debian's own account: https://wiki.debian.org/Cloud/AmazonEC2Image
  source_ami_filter {
    owners      = ["136693071363"]
    most_recent = true
    filters = {
      name                = "debian-13-${var.arch}-*"
      virtualization-type = "hvm"
      root-device-type    = "ebs"
    }
  }

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
  }
}
