# What a first deployment may want to change. The rest of the module's variables, and what these may hold, are described and
# checked in infra/variables.tf.

variable "region" {
  description = "Where to deploy."
  type        = string
  default     = "us-east-1"
}

variable "name" {
  description = "Prefix of every name."
  type        = string
  default     = "tarn"
}

variable "package_dir" {
  description = "Folder with the functions' packages; null is target/lambda of this repository."
  type        = string
  default     = null
}

variable "architecture" {
  description = "arm64 or x86_64; what the packages were built for."
  type        = string
  default     = "arm64"
}

variable "force_destroy" {
  description = "`terraform destroy` deletes the data too. Here it does, so that trying Tarn out leaves nothing behind; for data that matters, set it to false and apply."
  type        = bool
  default     = true
}

variable "kms" {
  description = "See the module."
  type        = any
  default     = {}
}

variable "functions" {
  description = "See the module."
  type        = any
  default     = {}
}

variable "search" {
  description = "See the module."
  type        = any
  default     = {}
}

variable "authorizer" {
  description = "See the module."
  type        = any
  default     = {}
}

variable "domain" {
  description = "See the module."
  type        = any
  default     = null
}

variable "build" {
  description = "See the module."
  type        = any
  default     = {}
}

variable "drop" {
  description = "See the module."
  type        = any
  default     = {}
}

variable "alarms" {
  description = "See the module."
  type        = any
  default     = {}
}

variable "log_filter" {
  description = "See the module."
  type        = string
  default     = "info"
}
