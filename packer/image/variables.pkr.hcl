packer {
  required_plugins {
    relay = {
      source  = "github.com/psf-relay/relay"
      version = ">= 1.0.0"
    }
  }
}

variable "arch" {
  type        = string
  description = "The architecture of the image, as Debian calls it"
  default     = "amd64"
}

variable "output" {
  type        = string
  description = "The folder for what is built"
  default     = "dist"
}

variable "formats" {
  type        = list(string)
  description = "Of raw, raw.gz, qcow2, vmdk, vhd, google.tar.gz, ova"
  default     = ["raw", "qcow2"]
}
